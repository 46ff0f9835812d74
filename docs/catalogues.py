"""The catalogues of translations: which messages pages have, and writing them into `locale/<language>.po` again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import write_po
from jinja2.ext import babel_extract

from model_registry.languages import CATALOGUES, LANGUAGES, read_catalogue
from model_registry.metrics import GROUPS, NAMES, OTHERS, metric_name
from model_registry.service.charts import ACCURACY
from model_registry.service.pages import WORDS
from orchestrator import monitor_page
from shared.report import data_page
from shared.report.model_card import CHARTS, GOOD, NOT_GOOD, OTHER_TEXTS
from shared.report.pages import OWN_CATALOGUES

ROOT = Path(__file__).resolve().parent.parent
Message = str | tuple[str, str]  # with its plural


def registry_messages() -> list[Message]:
    """Return every message of the registry's pages, in the order of its places."""
    keys = dict.fromkeys([*(key for keys in GROUPS.values() for key in keys), *NAMES])
    values = (*WORDS, ACCURACY, *GROUPS, OTHERS, *map(metric_name, keys))
    return unique([*template_messages(ROOT / "model_registry" / "service" / "templates"), *values])


def card_messages() -> list[Message]:
    """Return every message of the model card and of the page of samples that the registry's pages do not have."""
    texts = [
        *GOOD.values(),
        *NOT_GOOD.values(),
        *OTHER_TEXTS,
        *(text for heading, said in CHARTS.items() for text in (heading, *said)),
    ]
    known = {*registry_messages()}
    pages = ("model_card.html", "data_page.html")
    templates = [message for page in pages for message in template_messages(OWN_CATALOGUES.parent, page)]
    return [message for message in unique([*templates, *texts, *data_page.TEXTS]) if message not in known]


def monitor_messages() -> list[Message]:
    """Return every message of the monitor's page that the registry's pages do not have."""
    folder = monitor_page.OWN_CATALOGUES.parent
    messages = [*template_messages(folder, "monitor.html"), *monitor_page.TEXTS.values(), *monitor_page.NAMES]
    known = {*registry_messages()}
    return [message for message in unique(messages) if message not in known]


def template_messages(folder: Path, names: str = "*.html") -> Iterator[Message]:
    """Yield the messages of Jinja templates."""
    for path in sorted(folder.glob(names)):
        found = babel_extract(BytesIO(path.read_bytes()), ("_", "gettext", "ngettext"), (), {"silent": "false"})
        for _, function, message, _ in found:
            texts = [text for text in message if text] if isinstance(message, tuple) else [message]
            yield (texts[0], texts[1]) if function == "ngettext" else texts[0]


def unique(messages: Iterable[Message]) -> list[Message]:
    """Return each message once; one that also has a plural stands with it."""
    with_plural = {message[0] for message in messages if isinstance(message, tuple)}
    return list(dict.fromkeys(message for message in messages if message not in with_plural))


def write_catalogues(folder: Path, messages: Iterable[Message]) -> None:
    """Write the catalogues in `folder` with these messages, keeping translations, sentences of logs and modalities."""
    messages = list(messages)
    for language in LANGUAGES[1:]:
        path = folder / f"{language}.po"
        known = read_catalogue(path)
        catalogue = Catalog(language, fuzzy=False)
        for message in messages:
            found = known.get(message)
            catalogue.add(message, found.string if found is not None else "")
        for found in known:
            if found.context is not None:
                catalogue.add(found.id, found.string, context=found.context)
        with path.open("wb") as file:
            write_po(file, catalogue, width=120, no_location=True, omit_header=True)


def all_messages() -> dict[Path, list[Message]]:
    """Return the folder of each package's catalogues -> its messages."""
    return {
        CATALOGUES: registry_messages(),
        OWN_CATALOGUES: card_messages(),
        monitor_page.OWN_CATALOGUES: monitor_messages(),
    }


def main() -> None:
    """Write all catalogues."""
    for folder, messages in all_messages().items():
        write_catalogues(folder, messages)


if __name__ == "__main__":
    main()
