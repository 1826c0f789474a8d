"""A chart, and what shows it: a file that opens offline, a notebook."""

import html
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from calibrators.errors import MissingDependencyError
from calibrators.files import write_whole
from calibrators.installation import pip_install

Spec = Mapping[str, Any]
"""A chart in Vega-Lite's language, with its data."""


OPTIONS = '{mode: "vega-lite", actions: false}'
"""Of vega-embed."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart.

    Attributes:
        title: What it shows.
        spec: In Vega-Lite's language.
    """

    title: str
    spec: Spec

    def to_html(self) -> str:
        """A page of its own, which asks for nothing.

        Raises:
            MissingDependencyError: The extra [report] is not installed.
        """
        title = html.escape(self.title)
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
            f"<style>body{{margin:1rem;font-family:system-ui,sans-serif}}#chart{{width:100%}}</style></head>\n"
            f'<body><main><h1>{title}</h1><div id="chart"></div></main>\n'
            f"<script>{script()}</script>\n"
            f'<script>vegaEmbed("#chart", {embedded(self.spec)}, {OPTIONS});</script></body></html>\n'
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_html`, whole or not at all.

        Raises:
            MissingDependencyError: The extra [report] is not installed.
            OutputError: The file cannot be written.
        """
        write_whole(path, self.to_html())

    def _repr_html_(self) -> str:
        page = html.escape(self.to_html(), quote=True)
        style = "width:100%;height:32rem;border:0"
        return f'<iframe srcdoc="{page}" style="{style}" title="{html.escape(self.title)}"></iframe>'

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return {"application/vnd.vegalite.v5+json": dict(self.spec), "text/html": self._repr_html_()}


def script() -> str:
    """Vega, Vega-Lite and vega-embed as one script, of about 0.9 MB.

    Raises:
        MissingDependencyError: The extra [report] is not installed.
    """
    try:
        import vl_convert
    except ImportError as error:
        raise MissingDependencyError(
            f"charts need vl-convert-python, not installed here: {pip_install('report')}"
        ) from error
    bundle: Any = vl_convert.javascript_bundle  # whose stub wants an argument that it does not need
    return without_end(str(bundle()))


def embedded(value: object) -> str:
    """A value as JSON that can stand within a script of a page: no text of it ends the script."""
    return (
        json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c").replace("\u2028", "\\u2028")
    )


def without_end(text: str) -> str:
    """A script whose texts do not end the element that it stands in."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")
