"""Videos in and out by API, and what is refused of them."""

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc import StatusCode, aio
from grpc_status import rpc_status

from tests.bridge.catalogue.support.catalogue_bridge import CatalogueBridge, running_catalogue
from videowindow.feed.v1 import catalogue_pb2 as pb

CREATED, UPDATED, UNCHANGED = pb.VIDEO_CHANGE_CREATED, pb.VIDEO_CHANGE_UPDATED, pb.VIDEO_CHANGE_UNCHANGED
NOBODY = "127.0.0.1:1"


@pytest.fixture(scope="module")
async def bridge(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CatalogueBridge]:
    folder: Path = tmp_path_factory.mktemp("catalogue")
    async with running_catalogue(postgres_url, None, folder, NOBODY) as running:
        yield running


def whole(video_id: str, **fields: Any) -> pb.CatalogueVideo:
    """Return a video with everything that one can have."""
    return pb.CatalogueVideo(
        **{
            "video_id": video_id,
            "author_id": "Ünal",
            "tags": ["cats", "日本"],
            "language": "pt-BR",
            "duration_ms": 21_000,
            "published_at": Timestamp(seconds=1_700_000_000, nanos=123_456_000),
            "expires_at": Timestamp(seconds=4_000_000_000),
            "allowed_countries": ["DE", "FR"],
            "denied_countries": ["US"],
            "age_rating": 16,
            "attributes": {
                "licence": pb.AttributeValue(text='a "quoted" \\ text\n'),
                "weight": pb.AttributeValue(number=0.1),
                "is_live": pb.AttributeValue(flag=False),
                "moods": pb.AttributeValue(texts=pb.TextList(values=["calm", "sad"])),
            },
            **fields,
        }
    )


async def refusal(call: Any) -> tuple[StatusCode, list[str]]:
    """Return how a call is refused, and which fields are to blame."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    status, bad = rpc_status.from_call(caught.value), error_details_pb2.BadRequest()  # type: ignore[arg-type]
    assert status is not None
    for detail in status.details:
        detail.Unpack(bad)
    return caught.value.code(), [one.field for one in bad.field_violations]


async def test_a_video_comes_back_as_it_was_stored(bridge: CatalogueBridge) -> None:
    video = whole("whole")
    (created,) = await bridge.upsert(video)
    assert created.stored.change == CREATED
    stored = await bridge.get("whole")
    assert stored.video == video
    assert stored.revision == created.stored.revision
    assert not stored.HasField("hidden")
    (same,) = await bridge.upsert(video)
    assert (same.stored.change, same.stored.revision) == (UNCHANGED, created.stored.revision)
    (changed,) = await bridge.upsert(pb.CatalogueVideo(video_id="whole"))
    assert changed.stored.change == UPDATED
    assert changed.stored.revision > created.stored.revision
    assert (await bridge.get("whole")).video == pb.CatalogueVideo(video_id="whole")


async def test_an_upsert_leaves_a_hide_as_it_is(bridge: CatalogueBridge) -> None:
    (hide,) = await bridge.hide("later")  # before it is known
    await bridge.upsert(whole("later"))
    await bridge.upsert(whole("later", language="en"))
    stored = await bridge.get("later")
    assert stored.hidden.revision == hide.hidden.revision
    assert stored.revision > hide.hidden.revision
    assert bridge.hides("later")


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("video_id", {"video_id": ""}),
        ("video_id", {"video_id": "x" * 129}),
        ("author_id", {"author_id": "a\n"}),
        ("tags[1]", {"tags": ["a", ""]}),
        ("tags", {"tags": ["a", "a"]}),
        ("tags", {"tags": [str(n) for n in range(201)]}),
        ("tags", {"tags": [f"{n:0128}" for n in range(100)]}),
        ("language", {"language": "englisch!"}),
        ("duration_ms", {"duration_ms": -1}),
        ("published_at", {"published_at": Timestamp(seconds=-(10**14))}),
        ("expires_at", {"expires_at": Timestamp(nanos=-1)}),
        ("expires_at", {"published_at": Timestamp(seconds=10), "expires_at": Timestamp(seconds=10)}),
        ("allowed_countries[0]", {"allowed_countries": ["de"]}),
        ("denied_countries[1]", {"denied_countries": ["DE", "DEU"]}),
        ("age_rating", {"age_rating": 22}),
        ("attributes[empty]", {"attributes": {"empty": pb.AttributeValue()}}),
        ("attributes[n]", {"attributes": {"n": pb.AttributeValue(number=math.nan)}}),
        ("attributes[n]", {"attributes": {"n": pb.AttributeValue(number=1e300)}}),
        ("attributes[t]", {"attributes": {"t": pb.AttributeValue(text="x" * 1025)}}),
        ("attributes[t]", {"attributes": {"t": pb.AttributeValue(text="a\0b")}}),
        ("attributes[l]", {"attributes": {"l": pb.AttributeValue(texts=pb.TextList(values=["x" * 257]))}}),
        ("attributes", {"attributes": {"x" * 65: pb.AttributeValue(flag=True)}}),
        ("attributes", {"attributes": {f"a{n}": pb.AttributeValue(flag=True) for n in range(65)}}),
        ("attributes", {"attributes": {f"a{n}": pb.AttributeValue(text="x" * 1000) for n in range(20)}}),
        ("embedding", {"embedding": [0.0] * 513}),
        ("embedding[1]", {"embedding": [0.0, math.inf]}),
    ],
)
async def test_a_bad_video_is_named_by_field_and_index_and_the_others_are_stored(
    bridge: CatalogueBridge, field: str, fields: dict[str, Any]
) -> None:
    good, bad = pb.CatalogueVideo(video_id="good"), pb.CatalogueVideo(**{"video_id": "bad", **fields})
    first, second = await bridge.upsert(good, bad)
    assert first.HasField("stored")
    assert (second.index, second.error.code) == (1, StatusCode.INVALID_ARGUMENT.value[0])
    assert second.error.field == f"videos[1].{field}"
    assert second.error.message
    with pytest.raises(aio.AioRpcError):
        await bridge.get("bad")


async def test_of_two_with_one_id_the_second_is_refused(bridge: CatalogueBridge) -> None:
    first, second = await bridge.upsert(pb.CatalogueVideo(video_id="twin"), pb.CatalogueVideo(video_id="twin"))
    assert first.HasField("stored")
    assert (second.error.reason, second.error.field) == ("DUPLICATE_ID", "videos[1].video_id")
    one, other = await bridge.hide("twin", "twin")
    assert one.HasField("hidden")
    assert (other.error.reason, other.error.field) == ("DUPLICATE_ID", "video_ids[1]")


async def test_embeddings_are_as_long_as_the_first_one(bridge: CatalogueBridge) -> None:
    first, second = await bridge.upsert(
        pb.CatalogueVideo(video_id="e1", embedding=[0.5, 0.25]), pb.CatalogueVideo(video_id="e2", embedding=[1, 2, 3])
    )
    assert first.HasField("stored")
    assert second.error.field == "videos[1].embedding"
    assert second.error.message == "videos[1].embedding: has 3 numbers, those of all others have 2"
    assert [*(await bridge.get("e1")).video.embedding] == [0.5, 0.25]


async def test_a_stream_is_stored_and_summed_up(bridge: CatalogueBridge) -> None:
    async def batches() -> AsyncIterator[pb.ImportVideosRequest]:
        for start in (0, 250, 500):
            videos = [pb.CatalogueVideo(video_id=f"i{n}") for n in range(start, start + 250)]
            yield pb.ImportVideosRequest(videos=[*videos, pb.CatalogueVideo(video_id="i0"), pb.CatalogueVideo()])

    reply = await bridge.catalogue.ImportVideos(batches(), timeout=60)
    counts = (reply.received, reply.created, reply.updated, reply.unchanged, reply.refused)
    assert counts == (756, 750, 0, 2, 4)  # i0 twice in the first batch, and once more in each of the others
    assert [(one.index, one.error.field) for one in reply.first_errors] == [
        (250, "videos[250].video_id"),
        (251, "videos[251].video_id"),
        (503, "videos[503].video_id"),
        (755, "videos[755].video_id"),
    ]
    again = await bridge.catalogue.ImportVideos(batches(), timeout=60)
    assert (again.created, again.updated, again.unchanged) == (0, 0, 752)


async def test_a_stream_that_cannot_be_decoded_ends_with_an_error(bridge: CatalogueBridge) -> None:
    many = [pb.CatalogueVideo(video_id=f"m{n}") for n in range(1001)]

    async def batches() -> AsyncIterator[pb.ImportVideosRequest]:
        yield pb.ImportVideosRequest(videos=many)

    assert await refusal(bridge.catalogue.ImportVideos(batches(), timeout=60)) == (
        StatusCode.INVALID_ARGUMENT,
        ["videos"],
    )


async def test_lists_are_paged_and_filtered(bridge: CatalogueBridge) -> None:
    await bridge.upsert(*[pb.CatalogueVideo(video_id=f"l{n:02}", author_id=f"la{n % 2}") for n in range(12)])
    await bridge.hide("l02", "l03")
    await bridge.hide_authors("la1")

    async def pages(**fields: Any) -> list[str]:
        found, token = list[str](), ""
        while True:
            request = pb.ListVideosRequest(page_size=4, page_token=token, **fields)
            reply = await bridge.catalogue.ListVideos(request, timeout=20)
            found += [one.video.video_id for one in reply.videos]
            if not (token := reply.next_page_token):
                return found

    assert await pages(author_id="la0") == ["l00", "l02", "l04", "l06", "l08", "l10"]
    hidden = await pages(visibility=pb.VISIBILITY_FILTER_HIDDEN)
    assert [one for one in hidden if one.startswith("l")] == [
        "l01", "l02", "l03", "l05", "l07", "l09", "l11", "later",
    ]  # fmt: skip
    shown = await pages(author_id="la0", visibility=pb.VISIBILITY_FILTER_SHOWN)
    assert shown == ["l00", "l04", "l06", "l08", "l10"]
    assert await pages(author_id="la1", visibility=pb.VISIBILITY_FILTER_SHOWN) == []
    everything = await pages()
    assert everything == sorted(everything)
    assert {"l00", "l11"} <= {*everything}
    stored = await bridge.get("l03")
    assert (stored.hidden.reason, stored.author_hidden.reason) == ("rights", "spam")


async def test_bad_requests_name_their_fields(bridge: CatalogueBridge) -> None:
    calls, invalid = bridge.catalogue, StatusCode.INVALID_ARGUMENT
    first = await calls.ListVideos(pb.ListVideosRequest(page_size=1), timeout=20)
    tokens = {"short": "%", "long": "x" * 9999, "changed": f"A{first.next_page_token[1:]}"}
    lists = [
        (pb.ListVideosRequest(page_size=-1), "page_size"),
        (pb.ListVideosRequest.FromString(b"\x20\x09"), "visibility"),
        (pb.ListVideosRequest(author_id="a" * 129), "author_id"),
        *[(pb.ListVideosRequest(page_token=token), "page_token") for token in tokens.values()],
        (pb.ListVideosRequest(page_token=first.next_page_token, author_id="a"), "page_token"),
    ]
    for request, field in lists:
        assert await refusal(calls.ListVideos(request, timeout=20)) == (invalid, [field])
    assert await refusal(calls.UpsertVideos(pb.UpsertVideosRequest(), timeout=20)) == (invalid, ["videos"])
    too_many = pb.HideVideosRequest(video_ids=["v"] * 1001, reason="r", actor="a")
    assert await refusal(calls.HideVideos(too_many, timeout=20)) == (invalid, ["video_ids"])
    nameless = pb.HideAuthorsRequest(author_ids=["a"])
    assert await refusal(calls.HideAuthors(nameless, timeout=20)) == (invalid, ["reason", "actor"])
    assert await refusal(calls.GetVideo(pb.GetVideoRequest(), timeout=20)) == (invalid, ["video_id"])
    unknown = pb.GetVideoRequest(video_id="who")
    assert (await refusal(calls.GetVideo(unknown, timeout=20)))[0] is StatusCode.NOT_FOUND
    restored = await bridge.restore("x", 0)
    assert restored.error.field == "restorations[0].hide_revision"


async def test_pages_leave_out_what_is_denied_or_expired(bridge: CatalogueBridge) -> None:
    await bridge.upsert(
        pb.CatalogueVideo(video_id="t000", denied_countries=["DE"]),
        pb.CatalogueVideo(video_id="t001", allowed_countries=["DE"]),
        pb.CatalogueVideo(video_id="t002", expires_at=Timestamp(seconds=1)),
        pb.CatalogueVideo(video_id="t003", expires_at=Timestamp(seconds=4_000_000_000)),
    )
    await bridge.until_hidden("t002")
    assert await bridge.trending() == ["t000", "t001", "t003", "t004", "t005"]
    german = {"context": {"country": "DE"}}
    assert await bridge.trending(**german) == ["t001", "t003", "t004", "t005", "t006"]
    assert (await bridge.ids(**german))[0] == "t001"  # recsvc is away
    assert (await bridge.trending(context={"country": "US"}))[:3] == ["t000", "t003", "t004"]
    await bridge.upsert(pb.CatalogueVideo(video_id="t002"))
    await bridge.until_shown("t002")
    bad = bridge.trending(context={"country": "de"})
    assert await refusal(bad) == (StatusCode.INVALID_ARGUMENT, ["context.country"])
