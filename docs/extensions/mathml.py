"""Formulas as MathML, which browsers draw by themselves: no script, no font, no network."""

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

LOG = logging.getLogger(__name__)


def visit(writer: Any, node: nodes.Element) -> None:
    """A formula in a line, or a block of its own."""
    block = isinstance(node, nodes.math_block)
    try:
        formula = tex2mathml(node.astext().strip(), as_block=block)
    except MathError as error:
        LOG.warning("cannot draw the formula %r (%s)", node.astext(), error, location=node)
        raise nodes.SkipNode from error
    writer.body.append(f'<div class="formula">{formula}</div>\n' if block else formula)
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (visit, None), (visit, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
