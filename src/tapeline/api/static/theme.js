// Before the first paint: the reader's own choice of dark or light, if one was made.
{
  const kept = localStorage.getItem("theme");
  if (kept) document.documentElement.dataset.theme = kept;
}
