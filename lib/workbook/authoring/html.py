"""Markdown as HTML whose formulas need no script: what the slides and the site have in common."""

from latex2mathml import converter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath


class Renderer(IPythonRenderer):
    """Writes formulas as MathML, which browsers draw themselves."""

    def inline_math(self, body: str) -> str:
        return converter.convert(body)

    def block_math(self, body: str) -> str:
        return converter.convert(body, display="block")

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")

    def _html_embed_images(self, html: str) -> str:
        # nbconvert would close a tag that is open here and closed after a blank line: <details>.
        return super()._html_embed_images(html) if "<img" in html else html


def markdown(source: str, renderer: Renderer) -> str:
    """Return Markdown as HTML."""
    return MarkdownWithMath(renderer=renderer).render(source)
