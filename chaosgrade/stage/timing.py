"""How long AWS's control plane waits, in AWS seconds; the stage divides by its time scale."""

HEALTH_EVALUATION_S = 30.0
"""Between two health evaluations of an Auto Scaling group. Assumption: AWS documents none."""

LAUNCH_RETRY_S = 60.0
"""After a failed launch, until an Auto Scaling group tries again. Assumption: AWS documents that it
retries, not when."""

BALANCER_NOTICES_STATE_S = 20.0
"""From an instance's stop or termination until Elastic Load Balancing takes its target out of use,
unless health checks do so first. Assumption: the documented target states say that it happens
(`Target.InvalidState`), not when."""

BALANCER_DNS_TTL_S = 60.0
"""Of a load balancer's name. Elastic Load Balancing User Guide, "How Elastic Load Balancing works":
"the time-to-live (TTL) of 60 seconds"."""

NODE_LEAVES_DNS_S = 30.0
"""From when a load balancer's node cannot serve until its address leaves DNS, and back. Assumption:
AWS documents that it leaves, not when; a Route 53 health check takes 3 × 10 s."""
INTERRUPTION_NOTICE_S = 120.0
"""From the interruption notice until a Spot Instance is terminated. Source: Amazon EC2 User Guide,
"Spot Instance interruption notices"."""

NOTICE_POLL_S = 5.0
"""Between two looks of the sample workload for an interruption notice. Source: the same."""

DRAIN_S = 45.0
"""How long before its end the sample workload begins to fail its health check: two failed checks of
the bundled template take 25 s."""

FIS_STATE_S = 2.0
"""That an experiment of Fault Injection Service is pending, and as long again initiating.
Assumption: AWS documents the states, not how long they take."""

ADDRESS_SILENT_S = 900.0
"""After an instance has left, its address answers nothing for this long; then it refuses."""

DATABASE_FAILOVER_S = 60.0
"""From the loss of a Multi-AZ DB instance's primary until its standby is promoted; the endpoint's
name follows. Amazon RDS User Guide, "Failing over a Multi-AZ DB instance": "Failover times are
typically 60–120 seconds". That a crash of a server that has no standby is acted upon after the same
time is an assumption."""

CLUSTER_FAILOVER_S = 30.0
"""From the loss of a DB cluster's writer until a reader is promoted; the endpoint's name follows.
Amazon Aurora User Guide, "High availability for Amazon Aurora": "typically restored in less than 60
seconds, and often less than 30 seconds"; Amazon RDS API Reference, FailoverDBCluster, of Multi-AZ
DB clusters: "typically less than 35 seconds". That a writer without readers is restarted after the
same time is an assumption."""

DATABASE_RESTART_S = 30.0
"""For which a DB instance that is rebooted in place is down, the start itself excluded. Assumption:
the User Guide says that the time depends on the crash recovery of the engine."""

DATABASE_KEEPALIVE_IDLE_S, DATABASE_KEEPALIVE_INTERVAL_S = 300.0, 30.0
"""After how much silence of a client its server asks for a sign of life, and how much later again;
without two of them it ends the connection. Amazon RDS User Guide, "Dead connection handling in
PostgreSQL" (tcp_keepalives_idle, tcp_keepalives_interval, tcp_keepalives_count)."""

DNS_TTL_S = 5.0
"""Of the endpoint names of databases. Assumption: it is what Amazon's name servers answer, and
documented for Amazon Aurora only."""

CACHE_FAILOVER_S = 30.0
"""From the loss of a replication group's primary until a replica is promoted; the endpoint's name
follows. That a node which nobody can replace is started again after the same time, empty, too.
Assumption: the Amazon ElastiCache User Guide says that writes go on "as soon as promotion is
complete", and not when."""

CACHE_DNS_TTL_S = 5.0
"""Of the endpoint names of replication groups. Assumption: the User Guide asks clients to resolve
them "frequently"."""

REPLICATION_LAG_S = 0.5
"""Real seconds by which asynchronous standbys and read replicas lag; traffic is not scaled.
Assumption: AWS documents a metric (`ReplicaLag`) and no value."""

SAMPLE_S = 10
"""Between two looks at what is published as a metric and not counted: healthy hosts, active flows.
Assumption: AWS documents that there are a minimum and a maximum of each minute, not how often it
looks."""

METRICS_LATE_S = 0.25
"""Real seconds after the end of a period in which what belongs to it may still arrive; alarms are
evaluated then."""

TICK_S = 0.05
"""Real seconds between two looks of the reconcilers at the world."""

READY_TIMEOUT_S = 60.0
"""Real seconds, after which a stage that is not ready gives up."""

EXIT_TIMEOUT_S = 1.0
"""Real seconds that child processes get to leave by themselves."""


class AwsTime:
    """AWS seconds since the stage began.

    Args:
        scale: AWS seconds per real second.
        started: `time.monotonic()` at the beginning.
    """

    def __init__(self, scale: float, started: float) -> None:
        self.scale = scale
        self._started = started

    def at(self, monotonic: float) -> float:
        """AWS seconds at a reading of `time.monotonic()`."""
        return (monotonic - self._started) * self.scale

    def real(self, aws_s: float) -> float:
        """Real seconds that an AWS wait takes on this stage."""
        return aws_s / self.scale
