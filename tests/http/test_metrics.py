"""What a scrape of the surface tells, and whom."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.http.asking import KEY, Asking, Shelf, bearer, served, token


async def scraped(client: Asking) -> dict[tuple[str, ...], float]:
    """Scrape, as Prometheus reads it: the value of each name with its labels."""
    answer = await client.get("/metrics")
    assert answer.status == 200
    samples = [sample for family in text_string_to_metric_families(answer.body) for sample in family.samples]
    assert len({(sample.name, *sample.labels.items()) for sample in samples}) == len(samples)
    return {(sample.name, *sample.labels.values()): sample.value for sample in samples}


async def test_what_happens_is_counted() -> None:
    async with served(Shelf()) as (_, client):
        await client.get("/v1/me/credits")
        await client.get("/v1/me/credits", **bearer(token()))
        await client.get("/nothing/here")
        async with client.stream("/v1/me/credits/stream", token()) as stream:
            await stream.total()
            figures = await scraped(client)
        assert figures["creditsd_http_answers_total", "/v1/me/credits", "200"] == 1
        assert figures["creditsd_http_answers_total", "/v1/me/credits", "401"] == 1
        assert figures["creditsd_http_answers_total", "none", "404"] == 1
        assert figures["creditsd_http_auth_failures_total", "401"] == 1
        assert figures["creditsd_streams_open",] == 1
        assert figures["creditsd_streams_opened_total",] == 1
        assert figures["creditsd_stream_totals_total",] == 1
        assert figures["creditsd_http_connections",] >= 1
        assert figures["process_resident_memory_bytes",] > 1e7


async def test_made_up_paths_make_no_more_figures() -> None:
    async with served(Shelf(), requests_per_second_per_address=0) as (_, client):
        await scraped(client)
        before = len(await scraped(client))
        for number in range(50):
            await client.get(f"/v1/users/{number}/credits")
            await client.get(f"/nothing/{number}")
        assert len(await scraped(client)) <= before + 3


async def test_they_can_be_kept_for_servers() -> None:
    async with served(Shelf(), metrics_public=False) as (_, client):
        assert (await client.get("/metrics")).status == 401
        assert (await client.get("/metrics", **bearer(token()))).status == 403
        assert (await client.get("/metrics", **bearer(KEY))).status == 200
    async with served(Shelf(), metrics_public=False, api_keys=[]) as (_, client):
        refused = await client.get("/metrics", **bearer(KEY))
        assert (refused.status, "CREDITSD_HTTP__API_KEYS" in refused.error) == (403, True)


async def test_openmetrics_is_spoken_to_who_asks_for_it() -> None:
    async with served(Shelf()) as (_, client):
        answer = await client.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert answer.body.endswith("# EOF\n")
