"""Settings of what to quantize as a TOML file.

[default]
activation = "entropy"

[[layer]]
name = "conv1"
precision = "fp16"

[[name]]
pattern = ["layer3/*", "layer4/*"]
weight_bits = 4

[[type]]
type = "Gemm"
weight = "mse"

[skip]
names = ["head/*"]
first_convolutions = 1
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

from calibrators.errors import ConfigError
from trtcal.config.layer_settings import CLOSENESS, KEYS, LayerSettings
from trtcal.config.rules import Kind, LayerRules, Rules, Skip, qualified
from trtcal.config.toml_file import check_keys, parse_toml, read_toml

TARGETS: dict[Kind, str] = {"layer": "name", "name": "pattern", "type": "type"}
"""The key that says what a rule is for, by section."""

SECTIONS = ("default", *get_args(Kind), "skip")

WIDTH = 100
"""Characters of a line, beyond which a list has a line for each item."""


def load(path: Path, kind: type[Rules]) -> Rules:
    """What a file says, as a new one of `kind`; see `QuantConfig.load`."""
    with _within(str(path)):
        return _rules(read_toml(path, error=ConfigError), kind)


def parse(text: str, kind: type[Rules], *, source: str) -> Rules:
    """What a text says, as a new one of `kind`; see `QuantConfig.parse`."""
    with _within(source):
        return _rules(parse_toml(text, error=ConfigError), kind)


def dumps(config: LayerRules) -> str:
    """The text; see `QuantConfig.dumps`."""
    default = {key: value for key, value in asdict(config.default).items() if value is not None}
    plain = asdict(LayerSettings())
    stated = {key: value for key, value in default.items() if key == "precision" or value != plain[key]}
    tables = [("[default]", stated)]
    for (kind, settings), rules in groupby(config.rules, key=lambda rule: (rule.kind, rule.settings)):
        targets = [_written(rule.target) for rule in rules]
        tables.append((f"[[{kind}]]", {TARGETS[kind]: targets[0] if len(targets) == 1 else targets, **settings}))
    skipped = {each.name: getattr(config.skipped, each.name) for each in fields(Skip)}
    skipped["types"] = tuple(map(_written, config.skipped.types))
    if config.skipped != Skip():
        tables.append(("[skip]", {key: value for key, value in skipped.items() if value}))
    return "\n".join("".join(f"{line}\n" for line in _lines(header, values)) for header, values in tables)


def _rules(content: dict[str, Any], made: type[Rules]) -> Rules:
    for key in content:
        if key in KEYS:
            raise ConfigError(f"{key} stands above all sections: put it into [default], for all layers, or a rule")
    check_keys(content, SECTIONS, closeness=CLOSENESS, error=ConfigError)
    with _within("[default]"):
        config = made(LayerSettings(**_table(content.get("default", {}), KEYS)))
    add: dict[str, Callable[..., Rules]]
    add = {"layer": config.add_layer_config, "name": config.add_name_config, "type": config.add_type_config}
    for kind, key in TARGETS.items():
        known = set[str]()
        for number, each in enumerate(_tables(kind, content.get(kind, [])), 1):
            with _within(f"[[{kind}]] {number}"):
                stated = _table(each, (key, *KEYS))
                targets = _texts(key, stated.pop(key, []))
                if not targets:
                    raise ConfigError(f"{key} is missing: it says what the settings are for")
                for target in targets:
                    if target in known:
                        raise ConfigError(f"{key} {target!r} has settings already: put them together")
                    known.add(target)
                add[kind](targets, **stated)
    with _within("[skip]"):
        skipped = _table(content.get("skip", {}), [each.name for each in fields(Skip)])
        skipped |= {key: _texts(key, skipped[key]) for key in ("names", "types") if key in skipped}
        config.skip(**skipped)
    return config


@contextmanager
def _within(where: str) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _table(value: Any, valid: Sequence[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"a table of settings is wanted, not {value!r}")
    check_keys(value, valid, closeness=CLOSENESS, error=ConfigError)
    return dict(value)


def _tables(kind: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ConfigError(f"{kind} must be an array of tables: write [[{kind}]]")
    return value


def _texts(key: str, value: Any) -> list[str]:
    """A text, or a list of texts."""
    texts = value if isinstance(value, list) else [value]
    for text in texts:
        if not isinstance(text, str) or not text:
            raise ConfigError(f"{key} must be a text or a list of texts, not {text!r}")
    return texts


def _written(target: Any) -> str:
    if isinstance(target, (str, type)):
        return target if isinstance(target, str) else qualified(target)
    raise ConfigError(
        f"a file holds names, not modules such as one of class {type(target).__name__}: say what it is called in its "
        "model with add_name_config, or keep this configuration in Python"
    )


def _lines(header: str, values: Mapping[str, Any]) -> Iterator[str]:
    yield header
    for key, value in values.items():
        if not isinstance(value, (list, tuple)):
            yield f"{key} = {_value(value)}"
            continue
        items = [_value(item) for item in value]
        line = f"{key} = [{', '.join(items)}]"
        if len(line) <= WIDTH:
            yield line
        else:
            yield from (f"{key} = [", *(f"    {item}," for item in items), "]")


def _value(value: str | int | bool) -> str:
    """As TOML, whose strings are JSON's but for the character DEL."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"{value!r} is no text that a file can hold: {error.reason}") from error
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower()
