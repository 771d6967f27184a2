"""A bus of typed events: publishing never blocks; a slow subscriber loses its oldest events and can tell."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Any, Generic, TypeVar, overload

import anyio

E = TypeVar("E")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")


class Subscription(Generic[E]):
    """An async iterator over the events of some types, from the moment it was made until it is closed.

    Events of all its types come in the order they were published. One task receives at a time.
    """

    __slots__ = ("_bus", "_closed", "_queue", "_types", "_waiter", "dropped")

    def __init__(self, bus: EventBus, types: tuple[type[E], ...], buffer: int) -> None:
        """For the bus."""
        self._bus = bus
        self._types = types
        self._queue: deque[E] = deque(maxlen=buffer)
        self._waiter: anyio.Event | None = None
        self._closed = False
        self.dropped = 0
        """How many events were lost because the buffer was full."""

    def __len__(self) -> int:
        """How many events wait to be received."""
        return len(self._queue)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        types = ", ".join(kind.__name__ for kind in self._types)
        return f"<Subscription {types}: {len(self)} waiting, {self.dropped} dropped>"

    def _deliver(self, event: E) -> None:
        if len(self._queue) == self._queue.maxlen:
            self.dropped += 1
        self._queue.append(event)
        if self._waiter is not None:
            self._waiter.set()

    def discard_waiting(self) -> None:
        """Forget the events that wait to be received."""
        self._queue.clear()

    def close(self) -> None:
        """End the subscription; an iterator ends when it has given out what it holds. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._bus._forget(self._types, self)
        if self._waiter is not None:
            self._waiter.set()

    async def receive(self) -> E:
        """Wait for the next event. Cancelling loses none; does not yield to other tasks when one is there.

        Raises anyio.ClosedResourceError once closed and empty, anyio.BusyResourceError if another task waits.
        """
        while not self._queue:
            if self._closed:
                raise anyio.ClosedResourceError
            if self._waiter is not None:
                raise anyio.BusyResourceError("receiving from")
            self._waiter = anyio.Event()
            try:
                await self._waiter.wait()
            finally:
                self._waiter = None
        return self._queue.popleft()

    def __aiter__(self) -> Subscription[E]:
        return self

    async def __anext__(self) -> E:
        try:
            return await self.receive()
        except anyio.ClosedResourceError:
            raise StopAsyncIteration from None

    def __enter__(self) -> Subscription[E]:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class EventBus:
    """Delivers each published event to the subscriptions of exactly its type; for one event loop."""

    __slots__ = ("_by_type",)

    def __init__(self) -> None:
        self._by_type: dict[type, tuple[Subscription[Any], ...]] = {}

    @overload
    def subscribe(self, first: type[A], /, *, buffer: int = ...) -> Subscription[A]: ...

    @overload
    def subscribe(self, first: type[A], second: type[B], /, *, buffer: int = ...) -> Subscription[A | B]: ...

    @overload
    def subscribe(
        self, first: type[A], second: type[B], third: type[C], /, *, buffer: int = ...
    ) -> Subscription[A | B | C]: ...

    @overload
    def subscribe(
        self, first: type[A], second: type[B], third: type[C], fourth: type[D], /, *, buffer: int = ...
    ) -> Subscription[A | B | C | D]: ...

    @overload
    def subscribe(self, *types: type, buffer: int = ...) -> Subscription[Any]: ...

    def subscribe(self, *types: type, buffer: int = 256) -> Subscription[Any]:
        """Listen to events of `types`; `buffer` bounds how many wait, the oldest being dropped.

        Raises ValueError without a type, or for a buffer below 1.
        """
        if not types or buffer < 1:
            raise ValueError("subscribe needs at least one event type and a buffer of at least 1")
        types = tuple(dict.fromkeys(types))
        subscription: Subscription[Any] = Subscription(self, types, buffer)
        for kind in types:
            self._by_type[kind] = (*self._by_type.get(kind, ()), subscription)
        return subscription

    def publish(self, event: object) -> None:
        """Deliver `event`; returns at once and never raises."""
        for subscription in self._by_type.get(type(event), ()):
            subscription._deliver(event)

    def has_subscribers(self, kind: type) -> bool:
        """Whether anybody listens: lets a publisher skip building costly events."""
        return kind in self._by_type

    def _forget(self, types: tuple[type, ...], subscription: Subscription[Any]) -> None:
        for kind in types:
            listeners = tuple(other for other in self._by_type.get(kind, ()) if other is not subscription)
            if listeners:
                self._by_type[kind] = listeners
            else:
                self._by_type.pop(kind, None)
