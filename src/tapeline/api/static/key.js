// The key that the API may ask for. It is given once, for a cookie that no script can read.

const $ = (id) => document.getElementById(id);
const NEVER = new Promise(() => {});

// Ask the API. Where it wants a key the reader is asked for one, and nothing more is asked of the API
// until the page begins again with it.
export async function ask(path, options) {
  if ($("key").open) return NEVER;
  const answer = await fetch(path, options);
  if (answer.status !== 401) return answer;
  if (!$("key").open) $("key").showModal();
  return NEVER;
}

async function give(event) {
  event.preventDefault();
  const input = $("key-input");
  const key = input.value.trim();
  let trouble = null;
  try {
    // Not as Authorization: a proxy in front may keep a password of its own there.
    const answer = await fetch("v1/session", { method: "POST", headers: { "X-API-Key": key } });
    if (answer.ok) {
      location.reload();
      return;
    }
    trouble = answer.status === 401 ? "The API does not know this key." : (await answer.json()).detail;
  } catch {
    trouble = "This cannot be sent as a key, or the API does not answer.";
  }
  $("key-trouble").textContent = trouble;
  $("key-trouble").hidden = false;
  input.setAttribute("aria-invalid", "true");
  input.select();
}

$("key-form").addEventListener("submit", give);
// Without a key there is nothing behind it to go back to.
$("key").addEventListener("cancel", (event) => event.preventDefault());
