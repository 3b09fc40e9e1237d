"""A headless Chromium; tests of pages are skipped where the machine has none."""

import shutil

import pytest

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if BROWSER is None:
        pytest.skip("no Chromium on this machine: install it, such as by apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page that fails the test on any error of its scripts. Waiting for a condition needs eval, which our policy forbids."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, reduced_motion="reduce", bypass_csp=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page, problems = context.new_page(), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.set_default_timeout(10_000)
    yield page
    context.close()
    assert not problems


@pytest.fixture
def accessible():
    """A function that asserts that a page has no violation of axe's rules."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python").Axe()

    def check(page):
        found = axe.run(page).response["violations"]
        assert not found, [(v["id"], v["help"], [n["html"][:120] for n in v["nodes"][:3]]) for v in found]

    return check
