"""One agent at work: from a command to its answers.

A command's message is acknowledged when its job has ended and the answers are the broker's. Whatever happens to the agent
before that, the broker gives the command to another; so steps are carried out at least once.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence

from neutronflow.domain.facility import BadIdentifier, Facilities, RunKey, UnknownFacility
from neutronflow.domain.messages.run import BadMessage, RunMessage, decode_run_message
from neutronflow.domain.workflow.states import StepName
from neutronflow.foundation.broker.message import Message, queue
from neutronflow.foundation.broker.session import PublicationRefused, Session, Subscription
from neutronflow.foundation.telemetry import get_logger
from neutronflow.processing.agent import answers
from neutronflow.processing.agent.commands import STEP_OF, CommandRefused, run_key, work_of
from neutronflow.processing.steps.outcome import Ending, StepFailed, StepResult, Work

Step = Callable[[Work], Awaitable[StepResult]]

_REMEMBERED = 1000

log = get_logger(__name__)


class Worker:
    """Takes commands, one at a time in each slot."""

    def __init__(self, name: str, session: Session, facilities: Facilities, steps: Mapping[StepName, Step]) -> None:
        self.name = name
        self._session = session
        self._facilities = facilities
        self._steps = steps
        #: Commands that are done and answered: when the connection broke before the acknowledgement, they come again.
        self._done: OrderedDict[str, None] = OrderedDict()

    async def open_slot(self, queues: Sequence[str]) -> Subscription:
        """Begin to take the commands of these queues."""
        return await self._session.subscribe([queue(name) for name in queues], prefetch=1)

    async def serve_slot(self, commands: Subscription) -> None:
        """Carry out a slot's commands for ever, one after the other."""
        while True:
            message = await commands.get()
            try:
                await self.take(message)
            except PublicationRefused as error:
                # Said again it would be refused again: better one answer missing than an agent that never goes on.
                log.error(
                    "answer_refused", nf_id=message.nf_id, destination=str(message.destination), reason=str(error)
                )
            await self._session.ack(message)

    async def take(self, message: Message) -> None:
        """Carry out one command and answer it; returns when the answers are the broker's."""
        if message.nf_id in self._done:
            log.info("command_already_done", nf_id=message.nf_id)
            return
        try:
            said = decode_run_message(message.body)
            run = run_key(said, self._facilities)
        except (BadMessage, UnknownFacility, BadIdentifier) as error:
            log.warning("command_not_understood", destination=str(message.destination), reason=str(error))
            await self._session.publish(answers.dead_letter(message, self.name, str(error)))
            return
        await self._carry_out(said, run, STEP_OF[message.destination.name])
        if message.nf_id is not None:
            self._remember(message.nf_id)

    async def _carry_out(self, said: RunMessage, run: RunKey, step: StepName) -> None:
        bound = log.bind(run=str(run), step=str(step), attempt=said.attempt)
        try:
            work = await asyncio.to_thread(work_of, said, run, step, self._facilities)
        except CommandRefused as error:
            bound.warning("command_refused", reason=str(error))
            await self._session.publish(answers.refused(said, step, self.name, str(error)))
            return
        begin = time.time()
        await self._session.publish(answers.started(said, step, self.name))
        bound.info("step_started")
        result = await self._perform(work)
        # First the report, so that a page that shows the new state can show the log, too.
        told = answers.report(said, run, step, self.name, result=result, started=begin, ended=time.time())
        await self._session.publish(told)
        await self._session.publish(answers.ended(said, step, self.name, result))
        outcome = {"ending": str(result.ending), "exit_code": result.exit_code, "error": result.error or None}
        bound.info("step_ended", **outcome, seconds=round(time.time() - begin, 3))

    async def _perform(self, work: Work) -> StepResult:
        try:
            return await self._steps[work.step](work)
        except StepFailed as error:
            return StepResult(ending=Ending.ERROR, error=str(error), log=f"{error}\n")
        except Exception as error:  # the agent's one boundary: a step's fault ends that step, not the agent
            log.exception("step_crashed", run=str(work.run), step=str(work.step))
            reason = f"the agent failed: {type(error).__name__}: {error}"
            return StepResult(ending=Ending.ERROR, error=reason, log=f"{reason}\n")

    def _remember(self, nf_id: str) -> None:
        self._done[nf_id] = None
        if len(self._done) > _REMEMBERED:
            self._done.popitem(last=False)
