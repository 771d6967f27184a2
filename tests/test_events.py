"""The event bus: what is published reaches who listens, in order, bounded, and on both backends."""

from __future__ import annotations

from dataclasses import dataclass

import anyio
import anyio.lowlevel
import pytest

from py_p2pstack.events import EventBus

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Rang:
    count: int


@dataclass(frozen=True)
class Knocked:
    door: str


class RangTwice(Rang):
    """A kind of its own."""


async def test_events_of_all_types_asked_for_come_in_order() -> None:
    bus = EventBus()
    with bus.subscribe(Rang, Knocked) as events:
        bus.publish(Rang(1))
        bus.publish(Knocked("front"))
        bus.publish(Rang(2))
        assert [await events.receive() for _ in range(3)] == [Rang(1), Knocked("front"), Rang(2)]


async def test_only_the_exact_type_is_delivered() -> None:
    bus = EventBus()
    with bus.subscribe(Rang) as events:
        bus.publish(RangTwice(2))
        bus.publish(Knocked("back"))
        assert len(events) == 0


async def test_publishing_without_subscribers_is_free_and_harmless() -> None:
    bus = EventBus()
    assert not bus.has_subscribers(Rang)
    bus.publish(Rang(1))
    with bus.subscribe(Rang):
        assert bus.has_subscribers(Rang)
    assert not bus.has_subscribers(Rang)


async def test_each_subscription_gets_every_event() -> None:
    bus = EventBus()
    with bus.subscribe(Rang) as alice, bus.subscribe(Rang) as bob:
        bus.publish(Rang(1))
        assert await alice.receive() == await bob.receive() == Rang(1)


async def test_one_subscription_ends_without_the_others() -> None:
    bus = EventBus()
    alice, bob = bus.subscribe(Rang), bus.subscribe(Rang)
    alice.close()
    bus.publish(Rang(1))
    assert await bob.receive() == Rang(1)
    assert len(alice) == 0


async def test_a_full_buffer_loses_the_oldest_and_tells_how_many() -> None:
    bus = EventBus()
    with bus.subscribe(Rang, buffer=2) as events:
        for count in range(5):
            bus.publish(Rang(count))
        assert events.dropped == 3
        assert repr(events) == "<Subscription Rang: 2 waiting, 3 dropped>"
        assert [await events.receive(), await events.receive()] == [Rang(3), Rang(4)]


async def test_a_waiting_receiver_wakes_for_the_next_event() -> None:
    bus = EventBus()
    received: list[Rang] = []
    with bus.subscribe(Rang) as events:

        async def listen() -> None:
            received.append(await events.receive())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await anyio.wait_all_tasks_blocked()
            bus.publish(Rang(7))
    assert received == [Rang(7)]


async def test_closing_ends_the_iteration_after_what_it_holds() -> None:
    bus = EventBus()
    events = bus.subscribe(Rang)
    bus.publish(Rang(1))
    events.close()
    bus.publish(Rang(2))
    assert [event async for event in events] == [Rang(1)]
    with pytest.raises(anyio.ClosedResourceError):
        await events.receive()


async def test_closing_wakes_a_waiting_iterator_and_may_be_done_twice() -> None:
    bus = EventBus()
    events = bus.subscribe(Rang)
    seen: list[Rang] = []

    async def listen() -> None:
        seen.extend([event async for event in events])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        await anyio.wait_all_tasks_blocked()
        events.close()
        events.close()
    assert seen == []


async def test_a_cancelled_receive_loses_no_event() -> None:
    bus = EventBus()
    with bus.subscribe(Rang) as events:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await events.receive()
        bus.publish(Rang(1))
        assert await events.receive() == Rang(1)


async def test_a_second_waiting_receiver_is_refused() -> None:
    bus = EventBus()
    with bus.subscribe(Rang) as events:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(events.receive)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BusyResourceError):
                await events.receive()
            bus.publish(Rang(1))


async def test_waiting_events_can_be_discarded() -> None:
    bus = EventBus()
    with bus.subscribe(Rang) as events:
        bus.publish(Rang(1))
        events.discard_waiting()
        bus.publish(Rang(2))
        assert events
        assert await events.receive() == Rang(2)


async def test_a_type_given_twice_is_delivered_once() -> None:
    bus = EventBus()
    with bus.subscribe(Rang, Rang) as events:
        bus.publish(Rang(1))
        assert len(events) == 1


async def test_a_subscription_needs_a_type_and_a_buffer() -> None:
    with pytest.raises(ValueError, match="at least one event type"):
        EventBus().subscribe()
    with pytest.raises(ValueError, match="a buffer of at least 1"):
        EventBus().subscribe(Rang, buffer=0)
