"""A small process beside each process of a run over several, which outlives it: it says which one
died, and ends the others.

It is run as a script and imports the standard library only. jax ends all processes when the first
one dies, before any Python of theirs can say why; a sentinel still can. Sentinels talk over TCP
through a hub in the first one, which sends every message to all, in one order. A process and its
sentinel talk in lines of JSON over pipes (`peers.Peers`).

Messages: `{"step": n}` (kept here, sent on with the next sign of life), `{"left": true}` (the
process is about to end as it should), `{"failed": {...}}`, and any other, which the hub passes to
all with its sender's number as `from`. A failure, a process that ends without `left`, and a
sentinel that falls silent lead to one `{"verdict": {...}}` for all.
"""

import asyncio
import contextlib
import hmac
import json
import os
import signal
import socket
import sys

BEAT_SECONDS = 2.0
SILENCE_SECONDS = 60.0  # without a sign of life after which a host is taken to be gone
COLLECT_SECONDS = 1.0  # between the first report and the verdict: a cause may come after its effect
STUCK_SECONDS = 3.0  # the same, where no step is finished any more
GRACE_SECONDS = 10.0  # in which a process ends by itself after a verdict
TRY_AGAIN = 75  # EX_TEMPFAIL: the run did not fail by itself; the same command resumes it
LINE_LIMIT = 1 << 16
TOKEN = "AMURO_SENTINEL"  # environment variable with the secret that the run's sentinels share


class Hub:
    """Knows all processes, passes on what they say, and gives the verdict."""

    def __init__(self, count: int, token: str):
        self.count, self.token = count, token
        self.members, self.about, self.left = {}, {}, set()
        self.reports, self.verdict = [], None
        self.missed = []  # messages that were sent before all processes had come

    async def open(self) -> int:
        """Listens on a free port, which it returns."""
        if socket.has_dualstack_ipv6():
            listening = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        else:
            listening = socket.create_server(("", 0))
        await asyncio.start_server(self._member, sock=listening, limit=LINE_LIMIT)
        return listening.getsockname()[1]

    async def _member(self, reader, writer):
        number = None
        try:
            hello = json.loads(await asyncio.wait_for(reader.readline(), SILENCE_SECONDS))
            if not hmac.compare_digest(str(hello.get("token")), self.token):
                return
            number = hello["number"]
            writer.writelines(self.missed)
            self.members[number], self.about[number] = writer, hello
            if len(self.about) == self.count:
                self.missed = []
            while line := await asyncio.wait_for(reader.readline(), SILENCE_SECONDS):
                self._heard(number, json.loads(line))
            self._gone(number, "its machine is gone")
        except TimeoutError:
            self._gone(number, f"nothing was heard of its machine for {SILENCE_SECONDS:.0f} s")
        except (ValueError, OSError):
            self._gone(number, "its machine is gone")
        finally:
            self.members.pop(number, None)
            writer.close()

    def _gone(self, number, how):
        if number is not None and number not in self.left:
            self._report(number, {"message": how, "status": TRY_AGAIN})

    def _heard(self, number, message):
        if "step" in message:
            self.about[number]["step"] = message["step"]
        elif "left" in message:
            self.left.add(number)
        elif "failed" in message:
            self.left.add(number)  # that its sentinel goes is no news
            self._report(number, message["failed"])
        else:
            self._send({**message, "from": number})

    def _send(self, message):
        line = json.dumps(message).encode() + b"\n"
        if len(self.about) < self.count:
            self.missed.append(line)
        for writer in self.members.values():
            with contextlib.suppress(OSError):
                writer.write(line)

    def _report(self, number, failure):
        self.reports.append((number, failure))
        if len(self.reports) == 1:
            # Processes that wait for one that hangs notice it one after the other.
            wait = STUCK_SECONDS if failure.get("stuck") else COLLECT_SECONDS
            asyncio.get_running_loop().call_later(wait, self._decide)

    def _decide(self):
        """The first one that says why itself, else the first one that was reported."""
        causes = [report for report in self.reports if report[1].get("cause")]
        number, failure = (causes or self.reports)[0]
        info = self.about.get(number, {})
        who = f"process {number} of {self.count} (pid {info.get('pid')} on {info.get('host')})"
        message = failure["message"]
        if failure.get("stuck"):
            message += self._behind()
        self.verdict = {"number": number, "who": who, "message": message}
        self.verdict["status"] = failure.get("status", 1)
        self._send({"verdict": self.verdict})

    def _behind(self):
        """Names the process that the others wait for: of those that do not complain of a wait, the
        one that has done the fewest steps.
        """
        waiting = {number for number, _ in self.reports}
        silent = {n: one for n, one in self.about.items() if n not in waiting} or self.about
        slow = min(silent, key=lambda number: silent[number].get("step") or 0)
        info, steps = self.about[slow], [one.get("step") or 0 for one in self.about.values()]
        return (
            f"; the one behind is process {slow} (pid {info['pid']} on {info['host']}), at step "
            f"{info.get('step') or 0}, the others are at {max(steps)}"
        )


class Member:
    """The sentinel of one process."""

    def __init__(self, number: int, token: str):
        self.number, self.token, self.parent = number, token, os.getppid()
        self.step, self.left, self.failed, self.verdict = None, False, False, None
        self.judged = asyncio.Event()

    async def run(self, host: str, port: int, orders) -> None:
        """Until the process has ended; `orders` reads what it says."""
        reader, self.hub = await asyncio.open_connection(host, port, limit=LINE_LIMIT)
        self.tell(token=self.token, number=self.number, pid=self.parent, host=socket.gethostname())
        listening = asyncio.create_task(self._listen(reader))
        beating = asyncio.create_task(self._beat())
        await self._obey(orders)
        beating.cancel()
        if self.left:
            self.tell(left=True)
        else:
            if not self.failed:
                how = "it died: killed, out of memory, or ended by its runtime"
                self.tell(failed={"message": how, "status": TRY_AGAIN})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.judged.wait(), COLLECT_SECONDS + BEAT_SECONDS)
            self._explain()
        listening.cancel()
        with contextlib.suppress(OSError):
            await self.hub.drain()
            self.hub.close()

    def tell(self, **message) -> None:
        """Sends a message to the hub."""
        with contextlib.suppress(OSError):
            self.hub.write(json.dumps(message).encode() + b"\n")

    async def _obey(self, orders):
        while line := await orders.readline():
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if "step" in message:
                    self.step = message["step"]
                    continue
                if "failed" in message:
                    self.failed = True
                    self.tell(step=self.step)
                self.left = self.left or "left" in message
                if not self.left:
                    self.tell(**message)

    async def _beat(self):
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            self.tell(step=self.step)

    async def _listen(self, reader):
        with contextlib.suppress(OSError, ValueError):
            while line := await reader.readline():
                message = json.loads(line)
                if "verdict" in message:
                    self._judge(message["verdict"])
                else:
                    _write_line(message)
        if self.verdict is None:
            who, message = "process 0", "its machine is gone, or its sentinel was killed"
            self._judge({"number": 0, "who": who, "message": message, "status": TRY_AGAIN})

    def _judge(self, verdict):
        self.verdict = verdict
        self.judged.set()
        _write_line({"verdict": verdict})
        asyncio.get_running_loop().call_later(GRACE_SECONDS, self._kill)

    def _kill(self):
        self._explain()
        with contextlib.suppress(ProcessLookupError):
            if os.getppid() == self.parent:  # else it has ended and its number may be another's
                os.kill(self.parent, signal.SIGKILL)

    def _explain(self):
        """Says in this process's log why it ended, where it cannot do so itself any more."""
        if self.verdict is not None and not self.failed:
            self.failed = True
            print(explanation(self.number, self.verdict), file=sys.stderr, flush=True)


def explanation(number: int, verdict: dict) -> str:
    """The line of a verdict in the log of process `number`."""
    if verdict["number"] == number:
        return f"amuro: {verdict['who']}: {verdict['message']}"
    return f"amuro: process {number} ends because of {verdict['who']}: {verdict['message']}"


def _write_line(message):
    with contextlib.suppress(OSError):  # the process has ended
        os.write(1, json.dumps(message).encode() + b"\n")


async def main(number: int, count: int, token: str, address: str) -> None:
    """Runs the sentinel of process `number`, and in the first one the hub, at `host:port`."""
    orders = asyncio.StreamReader(limit=LINE_LIMIT)
    protocol = asyncio.StreamReaderProtocol(orders)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    hub = Hub(count, token) if number == 0 else None
    host, port = ("127.0.0.1", await hub.open()) if hub else address.rsplit(":", 1)
    _write_line({"port": int(port)})
    try:
        await Member(number, token).run(host, int(port), orders)
    except OSError as error:
        _write_line({"unwatched": f"{host}:{port} cannot be reached: {error}"})
        while await orders.readline():
            pass
    while hub and hub.members:  # the others still talk through it
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    for _signal in (signal.SIGINT, signal.SIGTERM):  # they are meant for the process
        signal.signal(_signal, signal.SIG_IGN)
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), os.environ[TOKEN], sys.argv[3]))
