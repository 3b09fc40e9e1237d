"""The page of the service, in a browser, on a real server: type, stream, scrub, compare, pin, link, key; accessible."""

import json

import pytest

from tests.cli.conftest import corpus, trained  # noqa: F401 (fixtures)
from tests.serve.conftest import server

pytestmark = pytest.mark.slow
TEXT = "the cat [MASK] the [MASK:2] and [MASK]"


@pytest.fixture(scope="module")
def url(trained):  # noqa: F811
    with server(trained, "--name", "small") as (_, url):
        yield url


@pytest.fixture
def opened(page, url):
    page.goto(url)
    page.wait_for_selector(".order option", state="attached")
    return page


def fill(page, text=TEXT, second=""):
    page.fill("#text", text)
    page.select_option(".second", second)
    page.locator("#text").press("Control+Enter")
    page.wait_for_function(
        "document.querySelector('.run').textContent === 'Fill' && !document.querySelector('#player').hidden"
    )
    assert page.locator(".problem").inner_text() == ""


def test_its_security_policy_allows_what_it_does(browser, url):
    context = browser.new_context()
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.goto(url)
    page.wait_for_selector(".order option", state="attached")
    page.fill("#text", TEXT)
    page.click(".run")
    page.wait_for_selector(".placed >> nth=3")
    context.close()
    assert not said


def test_keys_insert_blanks_and_fill(opened):
    opened.fill("#text", "the cat ")
    opened.locator("#text").press("Control+b")
    opened.fill(".length", "2-3")
    opened.click(".insert")
    assert opened.input_value("#text") == "the cat [MASK][MASK:2-3]"
    assert opened.locator(".subtitle").first.inner_text().startswith("small · ")
    fill(opened, opened.input_value("#text"))
    assert opened.locator(".placed").count() in (3, 4) and opened.locator(".blank").count() == 0


def test_steps_are_scrubbed_and_two_orders_compared(opened):
    fill(opened, second="left_to_right")
    assert opened.locator(".pane").count() == 2
    opened.locator("input[type=range]").fill("0")
    assert opened.locator(".blank").count() == 2 * 4
    opened.locator("input[type=range]").fill("1")
    right = opened.locator(".pane").nth(1)
    assert right.locator(".placed").count() == 1 and right.locator("span.token:not(.given)").first.get_attribute(
        "class"
    ) == ("token placed fresh")
    opened.locator(".blank").first.hover()
    assert opened.locator(".details li").count() == 5


def test_an_alternative_is_pinned_and_the_rest_decoded_again(opened):
    fill(opened)
    opened.locator(".placed").first.click()
    other = opened.locator(".details li button").nth(1)
    chosen = json.loads(other.inner_text())
    other.click()
    opened.wait_for_selector(".token.pinned")
    opened.wait_for_function("document.querySelector('.run').textContent === 'Fill'")
    assert opened.locator(".token.pinned").inner_text() == chosen.replace("\n", "") or chosen.strip() in (
        opened.locator(".token.pinned").inner_text()
    )
    assert opened.locator("span.token:not(.given)").count() == 3


def test_a_link_shows_the_same_decode(opened, page, url):
    fill(opened)
    before = opened.locator(".sheet").inner_text()
    link = opened.evaluate("location.href")
    page.goto("about:blank")
    page.goto(link)
    page.wait_for_function("document.querySelectorAll('.placed').length === 4")
    assert page.locator(".sheet").inner_text() == before and page.input_value("#text") == TEXT
    page.goto("about:blank")
    page.goto(url + "/#q=bm90anNvbg")
    page.wait_for_function("document.querySelector('.problem').textContent.includes('damaged')")


def test_what_the_service_refuses_is_said_on_the_page(opened):
    opened.click(".run")
    assert "nothing to fill" in opened.locator(".problem").inner_text()
    opened.fill("#text", "no blank here")
    opened.click(".run")
    opened.wait_for_function("document.querySelector('.problem').textContent.includes('[MASK]')")


def test_the_saved_page_plays_without_the_service(opened, page, tmp_path):
    fill(opened)
    before = opened.locator(".sheet").inner_text()
    with opened.expect_download() as download:
        opened.click(".save-page")
    download.value.save_as(tmp_path / "saved.html")
    page.goto((tmp_path / "saved.html").as_uri())
    assert page.locator(".sheet").inner_text() == before and page.locator("textarea").count() == 0


def test_a_service_with_keys_asks_for_one(page, trained):  # noqa: F811
    with server(trained, environment={"UNMASK_SERVE_KEYS": "secret-key-for-the-test"}) as (_, url):
        page.goto(url)
        page.wait_for_selector(".key", state="visible")
        page.fill(".key", "secret-key-for-the-test")
        page.locator(".key").blur()
        page.wait_for_selector(".order option", state="attached")
        fill(page)
        assert page.locator(".placed").count() == 4 and page.locator(".blank").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 380])
def test_it_is_accessible_and_fits_the_screen(opened, accessible, scheme, width):
    opened.emulate_media(color_scheme=scheme)
    opened.set_viewport_size({"width": width, "height": 800})
    fill(opened, second="random")
    opened.locator(".placed").first.hover()
    accessible(opened)
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
