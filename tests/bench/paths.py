"""What a contestant is: a way from a client address to the web server and to iperf3, and the proxies on it."""

import backends
from processes import Fleet

# The four processes between two clusters, in the order of a request.
PROXIES = ("sidecar-iad", "gateway-iad", "gateway-phx", "sidecar-phx")
GATEWAYS = ("gateway-iad", "gateway-phx")
SIDECARS = ("sidecar-iad", "sidecar-phx")
# Within one cluster: nothing between the two sidecars. Causeway has a gateway beside them, which is no part of the path.
SAME_CLUSTER = ("sidecar-iad", "sidecar-iad-1")
# The two kinds of path, and what a contestant's name ends in on the second.
CROSS, SAME = KINDS = ("cross", "same")
SAME_SUFFIX = f"-{SAME}"


class Path(Fleet):
    """A contestant for one turn. `up` starts it and returns when a request came through; leaving the context ends it."""

    name = "?"
    web = (backends.HOST, backends.WEB_PORT)
    iperf = (backends.HOST, backends.IPERF_PORT)

    def up(self):
        raise NotImplementedError

    def checked(self):
        """What only the end of a turn tells: further figures; an error if the traffic did not go the way that it should."""
        return {}

    def await_answer(self, deadline=30.0):
        self.wait_until(lambda: backends.answers(*self.web), f"{self.name}: a request through {self.web}", deadline)


class Direct(Path):
    """No proxy: the ceiling of the machine and the load generators."""

    name = "direct"

    def up(self):
        self.await_answer(5)
        return self
