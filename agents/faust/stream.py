"""What a stage's agent iterates."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from faust.streams import Stream


class BatchStream(Stream):
    """Hands batches over as they are. A public hook: Faust's setting `Stream`.

    Stock gives the event loop a turn before each message, and sets a current event, sensors and acknowledgements around
    it, which nobody asks for here: progress is the checkpoint's. At low rates that was a tenth of a worker's time.
    """

    def __aiter__(self) -> AsyncIterator[Any]:
        self.app.queues.update(dict.fromkeys(self.channel.topics, self.channel.queue))
        batches = self._batches()
        self._active_agens.add(batches)
        return batches

    async def _batches(self) -> AsyncIterator[Any]:
        self._finalized = True
        started = await self.maybe_start()
        app, queue = self.app, self.channel.queue
        try:
            while not self.should_stop:
                if not queue.empty():
                    await asyncio.sleep(0)  # a backlog: others have their turn, too
                batches = await queue.get()
                if app.flow_control.is_active() and batches[0].generation == app.consumer_generation_id:
                    yield batches
        except StopAsyncIteration:  # how Faust ends the wait for a message
            return
        finally:
            self._channel_stop_iteration(self.channel)
            if started:
                await self.stop()
                self.service_reset()
