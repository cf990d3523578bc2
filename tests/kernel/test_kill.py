#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The agent is killed before every step that it takes in the kernel and in pin_dir, and at random
moments; or it stands still for a minute. Nobody notices, and what the last one leaves is what a
clean start makes."""
import contextlib
import os
import shutil
import signal
import threading
import time

from case import FAR4, main
from sandbox import DEADLINE, Place, wait_until
from survive_case import ALONE, REDIRECTED, SurviveCase
from traffic import RESOLVERS, ask

KILLS = int(os.environ.get("SHUNT_KILLS", "100"))
STRIDE = 6
MINUTE = 60
# Of these none matters to the traffic.
ONE, TWO = ({"exclude_cidrs": ", ".join(f"1.{n}.1.{i}" for i in range(8)),
             "exclude_uids": f"400000000{n}"} for n in (1, 2))


class KillCase(SurviveCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(self.recover)
        self.arm("kill", 0)
        self.agent.stop()
        self.kills = 0

    def recover(self):
        """For the next test; also where this one left no agent."""
        self.disarm()
        self.agent.environment = {}
        self.agent.program = self.build_of(None)
        if self.agent.process.poll() is None:
            self.agent.stop(signal.SIGKILL)
        self.agent.configure(**self.mesh)
        self.agent.start()

    def ensure(self):
        """There is an agent."""
        if self.agent.process.poll() is not None:
            self.agent.start()

    def kill(self):
        self.agent.process.kill()
        self.agent.process.wait(DEADLINE)

    def step_through(self, action, before=lambda: None, after=lambda step: None):
        """Until the action comes to its end, which says whether it did, and what the agent does of
        its own accord meanwhile is not the step either."""
        step = 1
        before()
        self.arm("kill", step)
        while not (action() and self.disarm()):
            self.assertEqual(self.agent.process.wait(DEADLINE), -signal.SIGKILL)
            self.kills += 1
            self.disarm()
            after(step)
            step += 1
            before()
            self.arm("kill", step)
        return step

    def ask_it_to(self, verb):
        """Whether it did, and lived."""
        with contextlib.suppress(OSError, ValueError):
            self.agent.ask(verb)
            return True
        return False

    def conclude(self, *answers):
        self.ensure()
        self.assert_nobody_noticed(*answers)
        print(f"killed {self.kills} times", flush=True)


class EveryStep(KillCase):
    def test_start_and_reload(self):
        self.agent.start()
        self.start_traffic()
        self.wait_for_splicing()
        self.kill()
        self.assertGreater(self.step_through(self.begin), 20)
        configs = [ONE, TWO]

        def reload():
            self.agent.configure(**self.mesh | configs[0])
            configs.reverse()
            return self.ask_it_to("reload")
        self.assertGreater(self.step_through(reload, self.ensure), 10)
        self.wait_for_splicing()
        self.agent.configure(**self.mesh)
        self.agent.ask("reload")
        self.conclude(REDIRECTED)
        self.assert_as_after_a_clean_start()

    def test_upgrade_and_rollback(self):
        self.agent.start()
        self.start_traffic()
        self.wait_for_splicing()
        for name in "layout", "text", None:
            self.kill()
            self.agent.program = self.build_of(name)
            self.assertGreater(self.step_through(self.begin), 20)
            self.wait_for_splicing()
        self.conclude(REDIRECTED)
        wait_until(lambda: len(os.listdir(self.agent.pins)) == 1, "the other version is gone")
        self.assert_as_after_a_clean_start()

    def test_detach(self):
        """At some of its steps: it takes its time, and so does the start that follows."""
        self.agent.start()
        self.start_traffic()
        self.wait_for_splicing()
        step = 1
        while True:
            self.ensure()
            self.wait_for_splicing()
            self.arm("kill", step)
            self.ask_it_to("detach")
            status = self.agent.process.wait(DEADLINE)
            self.disarm()
            if status == 0:
                break
            self.assertEqual(status, -signal.SIGKILL)
            self.kills += 1
            step += 1 + self.dice.randrange(STRIDE)
        self.assertFalse(os.path.exists(self.agent.pins))
        self.conclude(REDIRECTED, ALONE)
        self.assert_as_after_a_clean_start()

    def test_first_start(self):
        def nothing():
            shutil.rmtree(self.agent.pins, ignore_errors=True)

        def recover(step):
            if step % 8:
                return
            self.agent.start()
            self.assertEqual(ask([FAR4]), {FAR4: REDIRECTED})
            self.kill()
        self.assertGreater(self.step_through(self.begin, nothing, recover), 40)
        self.assert_as_after_a_clean_start()


class RandomMoments(KillCase):
    def test_under_traffic(self):
        self.agent.start()
        self.start_traffic()
        self.wait_for_splicing()
        began = time.monotonic()
        self.kill()
        self.agent.start()
        takes = time.monotonic() - began
        while self.kills < KILLS:
            if self.agent.process.poll() is None and self.dice.random() < 0.5:
                self.agent.configure(**self.mesh | self.dice.choice((ONE, TWO, {})))
                self.agent.process.send_signal(signal.SIGHUP)
                time.sleep(self.dice.uniform(0, takes / 4))
            self.kill()
            self.kills += 1
            self.agent.program = self.build_of(self.dice.choice(("text", "layout", None, None)))
            self.agent.process = self.agent.spawn()
            time.sleep(self.dice.uniform(0, 1.5 * takes))
        self.kill()
        self.agent.program = self.build_of(None)
        self.agent.configure(**self.mesh)
        self.agent.start()
        self.wait_for_splicing()
        self.conclude(REDIRECTED)
        wait_until(lambda: len(os.listdir(self.agent.pins)) == 1, "the other version is gone")
        self.assert_as_after_a_clean_start()

    def test_detach(self):
        """The traffic goes by the agent, past it, and by the agent again."""
        self.agent.start()
        self.start_traffic()
        self.wait_for_splicing()
        began = time.monotonic()
        self.agent.detach()
        takes = time.monotonic() - began
        while self.kills < KILLS / 4:
            self.ensure()
            asker = threading.Thread(target=self.ask_it_to, args=("detach",))
            asker.start()
            time.sleep(self.dice.uniform(0, takes))
            self.kill()
            asker.join()
            self.kills += self.agent.process.returncode == -signal.SIGKILL
        self.ensure()
        self.wait_for_splicing()
        self.conclude(REDIRECTED, ALONE)
        self.assert_as_after_a_clean_start()


class StandsStill(KillCase):
    """Stopped by a signal, and let go on later."""

    def setUp(self):
        if not self.can_splice():
            self.leave_out()
        super().setUp()

    def child(self, name):
        cgroup = self.world.app.cgroup.child(name)
        self.addCleanup(lambda: os.path.exists(cgroup.directory) and cgroup.remove())
        return cgroup

    def enrolled(self, cgroup):
        entries = self.dump("shunt_cgroups")
        return os.stat(cgroup.directory).st_ino in {entry["key"] for entry in entries}

    def live_on(self, app):
        """What programs and runtimes do meanwhile."""
        brief = self.child("brief")
        for place in app, Place(brief, app.netns):
            self.assertEqual(place.run(ask, [FAR4]), {FAR4: REDIRECTED})
        brief.remove()
        for traffic in self.load, self.queries, self.talk:
            traffic.check()

    def test_for_a_minute(self):
        app = self.world.app
        mesh = {"cgroups": f"{app.cgroup.path}, {app.cgroup.path}/*"}
        self.agent.configure(**self.mesh | mesh)
        self.agent.start()
        self.start_traffic()
        self.wait_for_splicing()
        goes = self.child("goes")
        wait_until(lambda: self.enrolled(goes), "a cgroup is enrolled")
        self.agent.process.send_signal(signal.SIGSTOP)
        try:
            end = time.monotonic() + MINUTE
            goes.remove()
            comes = self.child("comes")
            self.agent.configure(**self.mesh | mesh | {"exclude_cidrs": f"{RESOLVERS[1]}/32"})
            self.agent.process.send_signal(signal.SIGHUP)
            while time.monotonic() < end:
                self.live_on(app)
        finally:
            self.agent.process.send_signal(signal.SIGCONT)
        wait_until(lambda: self.enrolled(comes), "it makes up for what it missed")
        wait_until(lambda: app.run(ask, RESOLVERS[1:]) == {RESOLVERS[1]: ALONE}, "it has reloaded")
        self.wait_for_splicing()
        self.conclude(REDIRECTED)
        self.assert_as_after_a_clean_start()


if __name__ == "__main__":
    main()
