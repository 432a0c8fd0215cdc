"""`tapeline watch`: tell a webhook when something happens."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Final

import typer

from tapeline.client.api import DEFAULT_URL, Api
from tapeline.local.home import Home
from tapeline.local.lock import held
from tapeline.model.errors import UsageError
from tapeline.model.texts import counted
from tapeline.model.times import TIME_FORMATS, within_reach
from tapeline.program.logs import configure_logging
from tapeline.program.options import input_file
from tapeline.program.process import end_with_parent, exit_stopped, sigterm_interrupts
from tapeline.program.settings import load_settings
from tapeline.program.watch_settings import WatchSettings, webhook_url
from tapeline.watch.delivery import Printed, Receiver
from tapeline.watch.judge import Judge
from tapeline.watch.outbox import Outbox
from tapeline.watch.rules import Rule, check_together, parse_rule
from tapeline.watch.rules_file import read_rules
from tapeline.watch.run import Watch
from tapeline.watch.webhook import Webhook

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _url(text: str | None) -> str | None:
    try:
        return text if text is None else webhook_url(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _api_url(text: str) -> str:
    try:
        Api(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return text


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        message = f"{text!r} is not a valid name: use letters, digits, '.', '_' and '-'."
        raise typer.BadParameter(message)
    return text


def watch(
    when: Annotated[
        list[str] | None,
        typer.Option("--when", metavar="RULE", help="What to tell; as often as you like."),
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(callback=input_file, help="File of rules, TOML (docs/watch.md).")
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(
            callback=_url,
            help="Where events are posted to; without one they are printed, a line of JSON each. "
            "An address that holds a token goes into TAPELINE_WATCH__WEBHOOK.",
        ),
    ] = None,
    api: Annotated[
        str, typer.Option("--api", callback=_api_url, help="Address of the API to watch.")
    ] = DEFAULT_URL,
    name: Annotated[
        str,
        typer.Option(callback=_name, help="Of this watch, which remembers by it what it has told."),
    ] = "default",
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=TIME_FORMATS, help="Tell new rules what happened from here on, UTC; now."
        ),
    ] = None,
) -> None:
    """Tell a webhook when something happens: a final bar, a price, a gap, a silent symbol.

    Each event is posted at least once, signed with TAPELINE_WATCH__SECRET, and tried again until
    it is taken. A restart goes on where the last run was, under the same --name.

    Example: tapeline watch --when 'AAPL close > 280' --when 'AAPL gap' --webhook URL

    Other rules: 'AAPL,MSFT 1h final', 'AAPL final volume > 1e6', 'AAPL silent', 'gap', 'feed'.
    """
    settings = load_settings()
    configure_logging(settings)
    end_with_parent()
    found = _rules(when or [], rules)
    receiver = _receiver(webhook, settings.watch)
    home = Home(settings.home)
    home.make_private()
    folder = home.watches / name
    message = f"Another watch {name} runs: stop it first, or give this one another --name."
    key = settings.watch.api_key
    with held(home.watches / f"{name}.lock", message):
        folder.mkdir(mode=0o700, exist_ok=True)
        outbox = Outbox(folder / "outbox.sqlite", settings.watch.max_events)
        began = within_reach(since) if since else datetime.now(timezone.utc)
        judge = Judge(found, outbox, began)
        watch = Watch(
            found, judge, outbox, receiver, api, None if key is None else key.get_secret_value()
        )
        text = f"Watching {api} by {counted(len(found), 'rule')}, telling {receiver.name}"
        if outbox.pending:
            text += f", {counted(outbox.pending, 'event waits', 'events wait')}"
        typer.echo(text, err=True)
        try:
            with sigterm_interrupts():
                watch.run()
        except KeyboardInterrupt:
            exit_stopped()


def _rules(when: list[str], file: Path | None) -> tuple[Rule, ...]:
    from_file = read_rules(file) if file else []
    return check_together([*(parse_rule(text) for text in when), *from_file])


def _receiver(webhook: str | None, settings: WatchSettings) -> Receiver:
    """Return who is told.

    Raises:
        UsageError: a webhook needs a secret, and none is set.
    """
    url = webhook or (settings.webhook.get_secret_value() if settings.webhook else None)
    if url is None:
        return Printed()
    if settings.secret is None:
        message = (
            "A webhook needs a secret, by which its receiver knows that events are ours: set "
            'TAPELINE_WATCH__SECRET to what echo "whsec_$(openssl rand -base64 32)" prints, and '
            "give the same to the receiver."
        )
        raise UsageError(message)
    return Webhook(url, settings.secret.get_secret_value(), settings.timeout_s)
