"""Tags in the text boxes after Reload UI, which ends every page that was open: so no other page is."""

from __future__ import annotations

from contract.pages import opened
from contract.test_namespaces_page import PANEL, chips, switch, write


def test_it_works_after_reload_ui(browser, host):
    host.reload()
    with opened(browser, host, PANEL.format("txt2img")) as page:
        switch(page, True)
        write(page, "species:seal")
        assert chips(page, 1) == [("species", "seal")]
