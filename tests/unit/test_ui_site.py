"""Who may look at the pages, what the answers' headers say, and what somebody sees when something is not there."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import polars as pl
import pytest
from starlette.testclient import TestClient

from config.model import AdminConfig, UiConfig
from exporters.clickhouse.config import ClickHouseConfig
from spanledger.admin.server import AdminServer
from spanledger.ui.app import alone
from spanledger.ui.ask import KEPT_SECONDS, AskError, Remembering, Value, kept_for
from spanledger.ui.auth import COOKIE
from spanledger.ui.pages.trace import hidden
from spanledger.ui.site import Site
from tests.ui_kit import FrameStore

TOKEN, VIEWER = "the admin port's token", "a viewer's token"
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
TOTALS = pl.DataFrame({"USD": [1234.5], "Saved": [1.0], "Calls": [10], "Failed": [1], "Unpriced": [2], "Priced": [7], "Input": [100], "Cached": [20], "Output": [5], "Nobody": [0.25], "HasNobody": [1]})  # fmt: skip
BEFORE = pl.DataFrame({"USD": [1200.0], "Earlier": [600.0], "Younger": [0]})


def client(store: FrameStore | None = None, token: str | None = None, host: str = "127.0.0.1", **options: object) -> TestClient:  # fmt: skip
    site = Site(store or FrameStore(), UiConfig.model_validate(options), token, clock=lambda: NOW)
    return TestClient(alone(site), base_url="http://spanledger.test", client=(host, 5000), follow_redirects=False)


ORIGIN = {"origin": "http://spanledger.test", "sec-fetch-site": "same-origin"}


def signed_in(token: str) -> TestClient:
    asker = client(token=TOKEN, host="10.0.0.9", viewer_token=VIEWER)
    answer = asker.post("/ui/sign-in?to=/ui/calls%3Fsince%3D1h", data={"token": token}, headers=ORIGIN)
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/calls?since=1h")
    return asker


def test_without_a_token_this_machine_looks_and_nobody_else() -> None:
    assert client().get("/ui/").status_code == 200
    elsewhere = client(host="10.0.0.9")
    for path in ("/ui/", "/ui/calls", "/ui/call/x", "/ui/trace/x"):
        answer = elsewhere.get(path)
        assert answer.status_code == 403
        assert "service.admin.auth" in answer.text


def test_with_a_token_everybody_signs_in_and_comes_back_to_where_they_wanted() -> None:
    asker = client(token=TOKEN)
    answer = asker.get("/ui/calls?since=1h")
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/sign-in?to=%2Fui%2Fcalls%3Fsince%3D1h")
    signed = signed_in(TOKEN)
    assert signed.get("/ui/calls").status_code == 200
    assert signed.get("/ui/calls").text.count("Sign out") == 1


def test_a_session_is_signed_ends_and_belongs_to_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    signed = signed_in(VIEWER)
    cookie = signed.cookies[COOKIE]
    role, end, signature = cookie.split(".")
    monkeypatch.setattr("spanledger.ui.site._WRONG_TOKEN_SECONDS", 0)
    for forged in (f"a.{end}.{signature}", f"v.{int(end) + 1}.{signature}", f"{role}.{end}.", "", "a", "..", "v.x.y"):
        asker = client(token=TOKEN, host="10.0.0.9", viewer_token=VIEWER)
        asker.cookies.set(COOKIE, forged)
        assert asker.get("/ui/").status_code == 303, forged
    other = client(token="another", host="10.0.0.9", viewer_token=VIEWER)
    other.cookies.set(COOKIE, cookie)
    assert other.get("/ui/").status_code == 303
    restarted = client(token=TOKEN, host="10.0.0.9", viewer_token=VIEWER)
    restarted.cookies.set(COOKIE, cookie)
    assert restarted.get("/ui/").status_code == 200


def test_an_old_session_is_over() -> None:
    from spanledger.ui.auth import Access

    now = [1000.0]
    access = Access(UiConfig(session=60.0), TOKEN, lambda: now[0])
    signed = access.sign_in(TOKEN)
    assert signed is not None
    assert access._session(signed[1]) is not None
    now[0] = 1060.0
    assert access._session(signed[1]) is None


def test_the_cookie_is_for_no_script_and_no_other_site() -> None:
    answer = client(token=TOKEN).post("/ui/sign-in", data={"token": TOKEN}, headers=ORIGIN | {"x-forwarded-proto": "https"})  # fmt: skip
    cookie = answer.headers["set-cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=strict", "secure", "path=/ui"))


@pytest.mark.parametrize("path", ["/ui/sign-in", "/ui/sign-out"])
@pytest.mark.parametrize("headers", [{}, {"origin": "http://evil.example"}, {"origin": "null"}, ORIGIN | {"sec-fetch-site": "cross-site"}])  # fmt: skip
def test_forms_of_other_sites_do_nothing(path: str, headers: dict[str, str]) -> None:
    answer = client(token=TOKEN).post(path, data={"token": TOKEN}, headers=headers)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_a_wrong_token_is_told_and_nowhere_else_is_led_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spanledger.ui.site._WRONG_TOKEN_SECONDS", 0)
    wrong = client(token=TOKEN).post("/ui/sign-in", data={"token": "no"}, headers=ORIGIN)
    assert wrong.status_code == 403
    assert "This is not the token." in wrong.text
    for to in ("https://evil.example", "//evil.example", "/ui/\\evil", "/metrics"):
        answer = client(token=TOKEN).post("/ui/sign-in", params={"to": to}, data={"token": TOKEN}, headers=ORIGIN)
        assert answer.headers["location"] == "/ui/"
    assert client(token=TOKEN).post("/ui/sign-in", content=b"x" * 5000, headers=ORIGIN).status_code == 403


def test_a_proxy_says_who_it_is_from_where_it_is_trusted() -> None:
    options = {"proxy_header": "X-Forwarded-Email", "trusted_proxies": ("10.1.0.0/16",), "admins": ("ann@example.com",)}
    known = {"x-forwarded-email": "bob@example.com"}
    asker = client(host="10.1.2.3", **options)
    assert "bob@example.com · viewer" in asker.get("/ui/", headers=known).text
    assert "· viewer" not in asker.get("/ui/", headers={"x-forwarded-email": "Ann@example.com"}).text
    assert asker.get("/ui/").status_code == 403
    assert client(host="10.2.2.3", **options).get("/ui/", headers=known).status_code == 403
    assert client(host="127.0.0.1", **options).get("/ui/", headers=known).status_code == 403


def test_a_token_may_also_come_with_the_request() -> None:
    asker = client(token=TOKEN, viewer_token=VIEWER, host="10.0.0.9")
    assert "· viewer" in asker.get("/ui/", headers={"authorization": f"Bearer {VIEWER}"}).text
    assert asker.get("/ui/", headers={"authorization": "Bearer nobody"}).status_code == 303


def test_every_answer_is_strict() -> None:
    for path in ("/ui/", "/ui/static/ui.css", "/ui/nothing", "/ui/sign-in"):
        answer = client(token=None).get(path)
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    page = client(FrameStore({"AS USD, sum(h.CacheSavingsUSD)": TOTALS})).get("/ui/").text
    assert "style=" not in page
    assert "<script>" not in page
    assert "http:" not in page
    assert "https:" not in page


def test_what_is_not_there_is_said() -> None:
    asker = client()
    assert asker.get("/ui/nothing").status_code == 404
    assert "no such call" in asker.get("/ui/call/x").text
    assert asker.get("/ui/call/x").status_code == 404
    assert asker.get("/ui/?since=yesterday").status_code == 400
    assert asker.get("/ui/?since=1h&until=2h").status_code == 400
    assert asker.get("/ui/?csv=nothing").status_code == 404
    assert asker.get("/ui/static/../site.py").status_code == 404


def test_a_store_that_fails_is_told_in_each_figure_and_the_page_stands() -> None:
    answer = client(FrameStore(fails="<the disk> is full")).get("/ui/")
    assert answer.status_code == 200
    assert answer.text.count("&lt;the disk&gt; is full") >= 9
    assert answer.text.rstrip().endswith("</html>")


def test_the_overview_says_its_figures_and_what_they_lack() -> None:
    store = FrameStore({"AS USD, sum(h.CacheSavingsUSD)": TOTALS, "AS Earlier": BEFORE})
    text = client(store).get("/ui/?team=a&team=b").text
    assert "<strong>$1,234.50</strong>" in text
    assert "+100.0%" in text
    assert "2 calls have no price" in text
    assert "$0.2500 belong to no team" in text
    assert all(parameters["team"] == ["a", "b"] for sql, parameters in store.asked if "AS n FROM" not in sql)


def test_a_ledger_that_is_younger_than_the_period_before_is_not_compared_with_a_part_of_it() -> None:
    store = FrameStore({"AS USD, sum(h.CacheSavingsUSD)": TOTALS, "AS Earlier": BEFORE.with_columns(Younger=1)})
    text = client(store).get("/ui/").text
    assert "no whole period before" in text
    assert "+100.0%" not in text
    assert "$600" not in text


def test_what_a_sender_wrote_is_text() -> None:
    evil = "<script>alert(1)</script>\0000\0"
    frame = pl.DataFrame({"Name": [evil], "USD": [1.0], "Calls": [1], "PerCall": [1.0]})
    text = client(FrameStore({"AS PerCall": frame})).get("/ui/").text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "\0" not in text


def test_a_formula_does_not_get_into_a_spreadsheet() -> None:
    frame = pl.DataFrame({"Name": ["=cmd()", "plain"], "USD": [-1.0, 2.0]})
    answer = client(FrameStore({"AS PerCall": frame})).get("/ui/?csv=teams")
    assert answer.text.splitlines() == ["Name,USD", "'=cmd(),-1.0", "plain,2.0"]
    assert answer.headers["content-disposition"] == 'attachment; filename="spanledger-teams.csv"'


def test_content_is_for_admins() -> None:
    assert hidden("gen_ai.input.messages", "hello")
    assert hidden("gen_ai.output.messages", "hello")
    assert hidden("exception.message", "prompt was: hello", "exception")
    assert hidden("unheard.of", "x" * 301)
    assert not hidden("gen_ai.request.model", "gpt-5")
    assert not hidden("http.response.status_code", "200")


def _trace(text: str) -> pl.DataFrame:
    row = {
        "SpanId": "1", "ParentSpanId": "", "SpanName": "chat", "ServiceName": "app", "SpanKind": "Client", "Start": 10**18, "Duration": 10**9,
        "StatusCode": "Error", "StatusMessage": text, "CallId": "c", "PriceStatus": "failed", "RequestModel": "m", "ResponseModel": "", "InputTokens": None,
        "OutputTokens": None, "CostUSD": None, "Findings": "", "PiiKeys": [], "PiiCounts": [], "AttributeKeys": ["gen_ai.input.messages", "gen_ai.request.model"],
        "AttributeValues": [text, "m-1"], "ResourceKeys": ["service.name"], "ResourceValues": ["app"], "EventTimes": [10**18], "EventNames": ["exception"],
        "EventKeys": [["exception.message"]], "EventValues": [[text]],
    }  # fmt: skip
    return pl.DataFrame([row])


def test_viewers_see_a_trace_without_what_was_said() -> None:
    said = "what the user said"
    cost = pl.DataFrame({"USD": [None], "Calls": [1], "Unpriced": [0]}, schema_overrides={"USD": pl.Float64})
    store = FrameStore({"AS AttributeKeys": _trace(said), "AS Unpriced FROM": cost})
    asker = client(store, token=TOKEN, viewer_token=VIEWER)
    seen = {token: asker.get("/ui/trace/1", headers={"authorization": f"Bearer {token}"}).text for token in (TOKEN, VIEWER)}  # fmt: skip
    assert seen[TOKEN].count(said) == 3
    assert said not in seen[VIEWER]
    assert "for admins only" in seen[VIEWER]
    assert "m-1" in seen[VIEWER]
    rows = {token: asker.get("/ui/trace/1?csv=spans", headers={"authorization": f"Bearer {token}"}).text for token in seen}  # fmt: skip
    assert said in rows[TOKEN]
    assert said not in rows[VIEWER]
    assert "chat" in rows[VIEWER]


@pytest.mark.parametrize(("enabled", "there"), [(True, True), (False, False)])
def test_one_option_turns_the_pages_off(enabled: bool, there: bool) -> None:
    config = AdminConfig(endpoint="127.0.0.1:0", ui=UiConfig(enabled=enabled))
    exporter = SimpleNamespace(config=ClickHouseConfig.model_validate({"dsn": "http://127.0.0.1:9/x"}))
    service = SimpleNamespace(config=SimpleNamespace(processors={}, exporters={"clickhouse": exporter}), deliveries=[])
    server = AdminServer(config, service)  # type: ignore[arg-type]
    asker = TestClient(server._pages(), client=("127.0.0.1", 5000), follow_redirects=False)
    assert asker.get("/ui/calls").status_code == (200 if there else 404)
    assert asker.get("/", headers={"accept": "text/html"}).status_code == (303 if there else 200)
    assert asker.get("/").text.startswith("Spanledger")


class CountingStore(FrameStore):
    """Slow on demand: `gate` holds answers back until it is set."""

    def __init__(self, fails: str = "") -> None:
        super().__init__({"one": pl.DataFrame({"n": [1]})}, fails)
        self.gate = threading.Event()
        self.gate.set()

    def ask(self, sql: str, parameters: Mapping[str, Value]) -> pl.DataFrame:
        found = super().ask(sql, parameters)
        assert self.gate.wait(10)
        return found


def test_an_answer_stands_for_some_seconds_and_one_under_way_is_waited_for() -> None:
    now = [0.0]
    store = CountingStore()
    kept = Remembering(store, lambda: now[0])
    store.gate.clear()
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(kept.ask, "one", {"since": NOW}) for _ in range(3)]
        store.gate.set()
        assert [answer.result()["n"][0] for answer in answers] == [1, 1, 1]
    assert len(store.asked) == 1
    kept.ask("one", {"since": NOW + timedelta(seconds=1)})
    assert len(store.asked) == 2, "another period is another question"
    now[0] = KEPT_SECONDS - 0.1
    kept.ask("one", {"since": NOW})
    assert len(store.asked) == 2
    now[0] = KEPT_SECONDS
    kept.ask("one", {"since": NOW})
    assert len(store.asked) == 3
    week = kept.standing(kept_for(7 * 86400))
    week.ask("a week", {})
    now[0] += 14.9
    week.ask("a week", {})
    assert len(store.asked) == 4
    now[0] += 0.1
    week.ask("a week", {})
    assert len(store.asked) == 5
    assert [kept_for(days * 86400) for days in (1 / 24, 1, 7, 30, 90)] == [5, 5, 15, 30, 30]


def test_failures_and_what_is_too_much_are_not_kept() -> None:
    failing = CountingStore(fails="no")
    kept = Remembering(failing)
    for _ in range(2):
        with pytest.raises(AskError, match="no"):
            kept.ask("one", {})
    assert len(failing.asked) == 2
    large = FrameStore({"many": pl.DataFrame({"n": range(1_500_000)}), "one": pl.DataFrame({"n": [1]})})
    kept = Remembering(large)
    for sql in ("one", "many", "many again", "many again", "many", "one"):
        kept.ask(sql, {})
    assert [sql for sql, _ in large.asked] == ["one", "many", "many again", "many", "one"]
