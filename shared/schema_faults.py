"""What pydantic refused, in our words: the key, what is wrong with it, and what would be valid.

What is valid is read off the schema's own JSON Schema, so a new field, nested model or discriminated union needs
nothing here.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ValidationError

from model_registry.messages import printable
from shared.errors import Fault

Key = tuple[int | str, ...]  # from the outermost object inwards: names of keys and places in lists
Node = Mapping[str, Any]  # of a JSON Schema

_PATTERNS = {
    "^[0-9a-f]{64}$": "a SHA-256 as 64 lower-case hexadecimal digits",
    "^sha256:[0-9a-f]{64}$": "'sha256:' and a SHA-256 as 64 lower-case hexadecimal digits",
}
_LONGEST = 80  # characters of a refused value that are shown


@dataclass(frozen=True)
class Problem:
    """One key of an object that is missing, unknown or has a value that is not valid."""

    key: Key
    reason: str


def faults_of(
    error: ValidationError, schema: type[BaseModel], path: str, line: int | None, within: Key = ()
) -> list[Fault]:
    """Return a fault for each key that `schema` refused, of the object under `within` at `path` and `line`."""
    whole = "(whole)" if line is None else "(line)"
    return [
        Fault(path, line, key_text((*within, *problem.key)) or whole, problem.reason)
        for problem in problems_of(error, schema)
    ]


def problems_of(error: ValidationError, schema: type[BaseModel]) -> list[Problem]:
    """Return each key that `schema` refused, once, in the order in which pydantic found them."""
    root = _json_schema(schema)
    refused = [_located(root, detail) for detail in error.errors(include_url=False)]
    found: dict[Key, Problem] = {}
    for one in _of_nearest_branches(refused):
        consequence = one.kind == "too_short" and any(
            len(other.key) > len(one.key) and other.key[: len(one.key)] == one.key for other in refused
        )
        if not consequence:  # a list is also too short where none of its items is valid
            problem = _problem(root, one)
            found.setdefault(problem.key, problem)
    return list(found.values())


def key_text(key: Key) -> str:
    """Return a key as people write it, `evaluation.folds`; nothing for the object itself."""
    return ".".join(part if part.isidentifier() or part.isdigit() else printable(part) for part in map(str, key))


def closest_first(names: Iterable[str], given: object) -> list[str]:
    """Return the names with the one that resembles `given` most in front; the others keep their order."""
    known = list(names)
    if not isinstance(given, str) or not known:
        return known
    likeness = [SequenceMatcher(None, given.lower(), name.lower()).ratio() for name in known]
    best = max(range(len(known)), key=likeness.__getitem__)
    return [known[best], *known[:best], *known[best + 1 :]] if likeness[best] >= 0.5 else known


@dataclass(frozen=True)
class _Choice:
    """A choice between alternatives without a tag: its place, its node, and the alternative that pydantic tried."""

    key: Key
    node: Node
    branch: str


@dataclass(frozen=True)
class _Refused:
    """One of pydantic's errors, its place in the schema, and the choices that it passed through on the way."""

    key: Key
    node: Node  # what is valid there
    section: Node  # the object that holds the key
    kind: str
    message: str
    value: object
    context: Mapping[str, Any]
    choices: tuple[_Choice, ...] = ()  # the outermost first


def _located(root: Node, detail: Any) -> _Refused:
    """Follow a place of pydantic's through the schema; the names of alternatives in it are no keys of the user's."""
    node, section = root, root
    key: Key = ()
    choices: list[_Choice] = []
    for part in detail["loc"]:
        node = _resolved(root, node)
        if "discriminator" in node:
            node = _tagged(root, node).get(str(part), {})
        elif len(_alternatives(node)) > 1:
            choices.append(_Choice(key, node, str(part)))
            node = _branch(root, node, str(part))
        elif part != "[key]":
            key, section, node = (*key, part), node, _member(node, part)
    context = detail.get("ctx", {})
    value = detail.get("input")
    return _Refused(key, node, section, detail["type"], detail["msg"], value, context, tuple(choices))


def _of_nearest_branches(refused: Sequence[_Refused], depth: int = 0) -> Iterator[_Refused]:
    """Yield what was refused; of alternatives only the one that was meant, or the choice itself where none was."""
    groups: dict[Key, list[_Refused]] = defaultdict(list)
    for one in refused:
        if len(one.choices) > depth:
            groups[one.choices[depth].key].append(one)
    for one in refused:
        if len(one.choices) <= depth:
            yield one
            continue
        choice = one.choices[depth]
        group = groups.pop(choice.key, [])
        inside = [o for o in group if len(o.key) > len(choice.key)]
        counts = Counter(o.choices[depth].branch for o in inside)
        if counts:
            nearest = min(counts, key=lambda name: (counts[name], name))
            yield from _of_nearest_branches([o for o in inside if o.choices[depth].branch == nearest], depth + 1)
        elif group:
            yield replace(one, key=choice.key, node=choice.node, kind="", choices=())


def _problem(root: Node, one: _Refused) -> Problem:
    match one.kind:
        case "missing":
            return Problem(one.key, f"is missing; it must be {describe(root, one.node)}" if one.node else "is missing")
        case "extra_forbidden":
            names = ", ".join(closest_first(one.section.get("properties", ()), one.key[-1]))
            return Problem(one.key, f"is not a known key; valid keys: {names}")
        case "value_error" | "assertion_error":
            return Problem(one.key, one.message.partition(", ")[2])
        case "timezone_aware":
            return Problem(one.key, "must carry a time zone, as in 2026-03-01T10:00:00.000Z")
        case "finite_number":
            return Problem(one.key, f"must be a finite number, not {_value_text(one.value)}")
        case "union_tag_invalid" | "union_tag_not_found":
            tag = str(one.context["discriminator"]).strip("'")
            given = one.value.get(tag) if isinstance(one.value, Mapping) else None
            names = ", ".join(closest_first(_tagged(root, _resolved(root, one.node)), given))
            missing = one.kind == "union_tag_not_found"
            reason = f"is missing; it must be one of {names}" if missing else f"must be one of {names}"
            return Problem((*one.key, tag), reason if missing else f"{reason}, not {_value_text(given)}")
    if one.kind.startswith("json_"):
        return Problem(one.key, f"is not readable JSON: {one.context.get('error', one.message)}")
    valid = describe(root, one.node, one.value)
    if not valid:
        return Problem(one.key, f"{one.message[:1].lower()}{one.message[1:]}")
    return Problem(one.key, f"must be {valid}, not {_value_text(one.value)}")


def describe(root: Node, node: Node, given: object = None) -> str:
    """Return what a node of the JSON Schema `root` allows, as in "a whole number from 2 to 20"; empty if anything.

    Of listed values the one that resembles `given` stands first.
    """
    node = _resolved(root, node, nullable=False)
    if "discriminator" in node:
        tag, names = node["discriminator"]["propertyName"], closest_first(_tagged(root, node), given)
        return f"a section whose {tag} is one of {', '.join(names)}"
    if options := _alternatives(node):
        absent = [{"type": "null"}] if any(o.get("type") == "null" for o in node.get("anyOf", ())) else []
        return ", or ".join(dict.fromkeys(filter(None, (describe(root, o, given) for o in (*options, *absent)))))
    if "enum" in node or "const" in node:
        values = node.get("enum", [node.get("const")])
        names = closest_first([v if isinstance(v, str) else json.dumps(v) for v in values], given)
        return f"one of {', '.join(names)}" if len(names) > 1 else names[0]
    match node.get("type"):
        case "boolean":
            return "true or false"
        case "null":
            return "null"
        case "integer":
            return f"a whole number{_range(node)}"
        case "number":
            return f"a number{_range(node)}"
        case "string":
            return _describe_text(node)
        case "array":
            return _describe_list(root, node, given)
        case "object":
            return _describe_section(root, node)
    return ""


def _describe_text(node: Node) -> str:
    if "date-time" in str(node.get("format")):
        return "a time with its zone, as in 2026-03-01T10:00:00Z"
    if "pattern" in node:
        return _PATTERNS.get(node["pattern"], f"text that matches {node['pattern']}")
    least, most = node.get("minLength"), node.get("maxLength")
    if most is not None:
        return f"text of {f'{least} to {most}' if least else f'at most {most}'} characters"
    return "a path" if node.get("format") == "path" else "text"


def _describe_list(root: Node, node: Node, given: object) -> str:
    if "prefixItems" in node:
        return f"a list of {len(node['prefixItems'])} values"
    least, most = node.get("minItems"), node.get("maxItems")
    counted = f" of {least or 0} to {most} values" if most else f" of at least {least}" if least else ""
    return f"a list{counted}, each {describe(root, node.get('items', {}), given) or 'of any kind'}"


def _describe_section(root: Node, node: Node) -> str:
    if "properties" in node:
        return f"a section with the keys {', '.join(node['properties'])}"
    value = node.get("additionalProperties")
    inner = describe(root, value) if isinstance(value, Mapping) else ""
    return f"a section of names, each with {inner}" if inner else "a section"


def _range(node: Node) -> str:
    low, above = node.get("minimum"), node.get("exclusiveMinimum")
    high, below = node.get("maximum"), node.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    parts = [
        f"{words} {limit}"
        for words, limit in (("at least", low), ("above", above), ("at most", high), ("below", below))
        if limit is not None
    ]
    return f" {'of ' if low is not None else ''}{' and '.join(parts)}" if parts else ""


def _value_text(value: object) -> str:
    if isinstance(value, str):
        return printable(value)
    try:
        text = json.dumps(value, default=str)
    except (TypeError, ValueError):
        text = ascii(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


@lru_cache(maxsize=64)
def _json_schema(schema: type[BaseModel]) -> Node:
    return schema.model_json_schema()


def _resolved(root: Node, node: Node, nullable: bool = True) -> Node:
    """Return the node itself where it is a reference, or something that may also be null."""
    while True:
        if "$ref" in node:
            node = root["$defs"][node["$ref"].rpartition("/")[2]]
        elif len(node.get("allOf", ())) == 1:
            node = node["allOf"][0]
        elif nullable and "anyOf" in node and len(_alternatives(node)) == 1:
            node = _alternatives(node)[0]
        else:
            return node


def _alternatives(node: Node) -> list[Node]:
    """Return what a node lets choose from, null aside."""
    return [option for option in node.get("anyOf", node.get("oneOf", ())) if option.get("type") != "null"]


def _tagged(root: Node, node: Node) -> dict[str, Node]:
    return {tag: _resolved(root, {"$ref": ref}) for tag, ref in node["discriminator"]["mapping"].items()}


_JSON_TYPES = {  # how pydantic's names of alternatives begin -> their types in JSON Schema
    "tuple": "array",
    "list": "array",
    "dict": "object",
    "str": "string",
    "constrained-str": "string",
    "float": "number",
    "constrained-float": "number",
    "int": "integer",
    "constrained-int": "integer",
    "bool": "boolean",
}


def _branch(root: Node, node: Node, name: str) -> Node:
    """Return the alternative that pydantic calls by `name`: a model's class, or the kind of a plain value."""
    options = _alternatives(node)
    kind = _JSON_TYPES.get(name.partition("[")[0])
    named = [option for option in options if option.get("$ref", "").rpartition("/")[2] == name]
    of_kind = [option for option in options if kind is not None and option.get("type") == kind]
    listed = [option for option in options if name.startswith("literal") and ("const" in option or "enum" in option)]
    plain = [option for option in options if "$ref" not in option]
    return _resolved(root, (named or listed or of_kind or plain or options)[0])


def _member(node: Node, part: int | str) -> Node:
    if isinstance(part, int):
        fixed = node.get("prefixItems", ())
        found: Node = fixed[part] if part < len(fixed) else node.get("items", {})
        return found
    extra = node.get("additionalProperties")
    found = node.get("properties", {}).get(part, extra if isinstance(extra, Mapping) else {})
    return found
