"""The stage's control plane: keeps the played AWS, the processes and the balancers in agreement.

`tick` looks at the world and does what is due: instances that should run get processes, groups get
their capacity, balancers get their targets. All of it under one lock, which every API call holds
as well: a call sees a world that does not change under it.
"""

import math
import os
import random
import socket
import sys
import time
from base64 import b64decode
from collections import deque
from collections.abc import Mapping
from ipaddress import IPv4Network
from threading import RLock
from typing import TYPE_CHECKING, Any

from chaosgrade.errors import UsageError
from chaosgrade.stage import network_acls
from chaosgrade.stage.addresses import Addresses, outside
from chaosgrade.stage.autoscaling import IN_SERVICE
from chaosgrade.stage.balancer_names import BalancerNames
from chaosgrade.stage.balancing import Balancing
from chaosgrade.stage.cache_reconciler import CacheReconciler
from chaosgrade.stage.capacity_pools import CapacityPools
from chaosgrade.stage.children import Child, OnEvent
from chaosgrade.stage.database_reconciler import DatabaseReconciler
from chaosgrade.stage.fabric import Fabric
from chaosgrade.stage.fault_injection import FaultInjection
from chaosgrade.stage.group_reconciler import GroupReconciler
from chaosgrade.stage.instance_metadata import ENDPOINT_VARIABLE, Instance, InstanceMetadata
from chaosgrade.stage.interruptions import Interruptions
from chaosgrade.stage.links import Links
from chaosgrade.stage.monitoring import Monitoring
from chaosgrade.stage.name_service import NameService
from chaosgrade.stage.network_service import NetworkService
from chaosgrade.stage.ssm_documents import Invocation, invoke
from chaosgrade.stage.template import Template
from chaosgrade.stage.timing import ADDRESS_SILENT_S, DRAIN_S, NOTICE_POLL_S, AwsTime
from chaosgrade.stage.world import DatabaseHooks, Hooks, Host

if TYPE_CHECKING:
    from chaosgrade.stage.data_services import DataServices
    from chaosgrade.stage.moto_caches import MotoCaches
    from chaosgrade.stage.moto_databases import MotoDatabases
    from chaosgrade.stage.moto_world import MotoWorld

_WEB_PORT = 8080
_PROGRAMS = frozenset({"quote", "recommend", "web", "worker"})
"""Of the sample workload."""

POOLS_PARAMETER = "SpotCapacityPerPool"
"""A template's parameter that the stage reads itself: what each Spot pool holds at first."""


class ControlPlane:
    """One played AWS.

    Args:
        template: what it is built from.
        region: where it plays.
        scale: AWS seconds per real second.
        fabric: what connects its instances.

    Raises:
        UsageError: no address is free, or the template's `POOLS_PARAMETER` is no number.
    """

    def __init__(self, template: Template, region: str, scale: float, fabric: Fabric) -> None:
        self.lock = RLock()
        self.fabric = fabric
        self.addresses = Addresses(fabric.network, self._on_subnet)
        services = self.addresses.services_within
        self.pools = CapacityPools(_first_capacity(template))
        self.interruptions = Interruptions()
        self._template = template
        self._region = region
        self._time = AwsTime(scale, time.monotonic())
        self._running: dict[str, Host] = {}
        self._left_at: dict[str, float] = {}
        self._silent: set[str] = set()
        self._errors_said = 0
        self._network: tuple[tuple[network_acls.Subnet, ...], frozenset[int]] = ((), frozenset())
        self._up = False
        # Nothing follows from a process's start or end: the balancer finds out, as on AWS.
        self._metadata = fabric.within(lambda: InstanceMetadata(self.addresses.metadata, region))
        self._router = NetworkService(fabric, (services, self.addresses.metadata))
        self._hosts = self._start("chaosgrade.stage.hosts", lambda event: None)
        self._balancing = Balancing(scale, self._send_balancer, self._left_at.get)
        self._monitoring = Monitoring(scale, self._balancing.host_counts)
        self._balancer = self._start("chaosgrade.stage.balancer", self._on_balancer)
        self._balancer_names = BalancerNames(self._balancing.can_serve)
        self.names = NameService(
            self._start,
            self.addresses.services,
            services,
            scale,
        )
        self._databases = DatabaseReconciler(
            self._start,
            self._time,
            self.addresses.for_subnet,
            lambda records: self.names.publish("databases", records),
        )
        self._caches = CacheReconciler(
            self._start,
            self._time,
            self.addresses.for_subnet,
            lambda records: self.names.publish("caches", records),
        )
        # They make ready while moto is being imported.
        if '"AWS::RDS::DBInstance"' in template.body:
            self._databases.process.start()
        if '"AWS::ElastiCache::ReplicationGroup"' in template.body:
            self._caches.process.start()
        self.variables: Mapping[str, str] = {}
        """Of every instance's environment: where SDKs find the played AWS."""
        self.data: DataServices | None = None
        self._access_logs: deque[Mapping[str, Any]] = deque()
        """Files of load balancers' access logs that are to be written."""
        self.world: MotoWorld
        self.databases: MotoDatabases
        self.caches: MotoCaches
        self._groups: GroupReconciler
        self._faults: FaultInjection

    def build(self) -> None:
        """Create the stack. Called once, after moto has been imported."""
        from chaosgrade.stage import (  # late: see moto_import
            moto_caches,
            moto_data_resources,
            moto_databases,
            moto_fis,
            moto_replacements,
            moto_spot,
            moto_wrong_values,
        )
        from chaosgrade.stage.data_services import DataServices
        from chaosgrade.stage.moto_world import MotoWorld

        self.data = DataServices(self.addresses.services, self._region)
        moto_data_resources.install(self.data.create)
        hooks = Hooks(
            address=self.addresses.for_subnet,
            target_health=lambda arn, target, port: self._balancing.target_health(
                arn, target, port, self._now()
            ),
            draining=self._balancing.draining,
            command=self._command,
            activities=lambda group: self._groups.activities(group),  # noqa: PLW0108 - made below
            terminating=lambda group, instance, cause: self._groups.terminating(  # noqa: PLW0108
                group, instance, cause
            ),
            runs=self._running.__contains__,
            reboot=self._reboot,
            now=self._now,
            interruption=self.interruptions.of,
            pools=self.pools,
            has_bucket=self.data.has_bucket,
        )
        self.world = MotoWorld(self._region, hooks)
        self._faults = FaultInjection(
            self.interruptions, self.world.fault_targets, random.Random(os.urandom(8))
        )
        moto_replacements.install(hooks, self.world)
        moto_wrong_values.install(self.addresses.networks.__contains__)
        self.databases = moto_databases.MotoDatabases(self._region)
        moto_databases.install(
            DatabaseHooks(
                self._databases.restart, self._databases.fail_over, self._databases.promote
            )
        )
        self.caches = moto_caches.MotoCaches(self._region)
        moto_caches.install(self._caches.fail_over)
        moto_spot.install(hooks, self.world)
        moto_fis.install(hooks, self._faults)
        self._monitoring.build(self._region, self._now, self.data.notify)
        self._groups = GroupReconciler(
            self.world,
            runs=self._running.__contains__,
            drains=self._balancing.drains,
            refuses=self._balancing.refuses,
            denied=self._faults.denied,
        )
        with self.lock:
            self.world.create_stack(self._template)

    @property
    def unable(self) -> dict[tuple[str, str], str]:
        """{(service, operation): why} of what cannot be played on this machine."""
        reason = (
            "the stage cannot cut its network here: this machine gives this user neither network "
            "namespaces nor packet filters; run it as root"
        )
        operations = () if self.fabric.cuts else network_acls.CHANGING
        return {("ec2", operation): reason for operation in operations}

    @property
    def metadata_url(self) -> str:
        """Where instances ask about themselves."""
        return self._metadata.url

    @property
    def balancer_urls(self) -> dict[str, str]:
        """{name: URL} of every load balancer, by its listener with the lowest port."""
        first: dict[str, str] = {}
        for b in sorted(self.world.balancers(), key=lambda each: int(each["port"])):
            first.setdefault(b["name"], f"http://{outside(b['nodes'][0]['host'])}:{b['port']}")
        return first

    def ready(self) -> bool:
        """Whether groups are full, targets healthy, databases and caches available, listeners open.

        Raises:
            UsageError: a listener cannot be opened, a database or cache not started; a child has
                died.
        """
        for part in (self._balancing, self._router, self._databases, self._caches):
            if part.errors:
                raise UsageError(part.errors[0])
        self.check_children()
        with self.lock:
            full = all(
                [m.lifecycle for m in group.members] == [IN_SERVICE] * group.desired
                for group in self._groups.groups(self._now())
            )
            parts_are = (
                full
                and self._balancing.ready(self._now())
                and self._databases.ready(self.databases)
                and self._caches.ready(self.caches)
                and self._router.ready
                and self.names.server
            )
            if not self._up and parts_are:
                # A stage plays a system that has been up for long: nothing is in its grace period,
                # and only what is launched later boots.
                self.world.settle()
                self._monitoring.settle()
                self._up = True
                self._publish_balancers()
            return self._up

    def check_children(self) -> None:
        """Notice the death of a part of the stage.

        Raises:
            UsageError: one has died.
        """
        for name, child in (
            ("hosts", self._hosts),
            ("balancer", self._balancer),
            ("databases", self._databases.process),
            ("caches", self._caches.process),
            ("dns", self.names),
            ("data services", self.data),
            ("network", self._router),
        ):
            if child is not None and not child.alive:
                raise UsageError(
                    f"the stage's process {name} has ended, and with it the stage; start it again"
                )

    def tick(self) -> None:
        """Do what is due."""
        with self.lock:
            # Balancers first: a target that was just deregistered must be seen to drain before
            # its group may terminate it.
            self.follow()
            self._faults.tick(self._now())
            for instance in self.interruptions.due(self._now()):
                self.world.interrupt(instance)
            self._groups.reconcile(self._now())
            self.follow()
            self._databases.reconcile(self.databases)
            self._caches.reconcile(self.caches)
            if self._up:
                self._monitoring.tick()
        self._deliver_access_logs()
        for error in self._balancing.errors[self._errors_said :]:
            self._errors_said += 1
            print(f"chaosgrade: {error}", file=sys.stderr, flush=True)

    def follow(self) -> None:
        """Have processes and balancers follow the played AWS. Also called after each API call."""
        self._sync_hosts()
        self._sync_links()
        self._sync_metadata()
        self._balancing.reconcile(
            self.world.balancers(), self.world.target_groups(), self._place, self._now()
        )
        self._router.set_doors(
            (b["name"], n["host"], b["port"]) for b in self.world.balancers() for n in b["nodes"]
        )
        if self._up:
            self._publish_balancers()

    def listen_within(self) -> socket.socket:
        """A socket of the stage's own that instances reach."""
        return self.fabric.within(lambda: socket.create_server((self.addresses.services_within, 0)))

    def stop(self) -> None:
        """End everything that was started."""
        children = (
            self._databases.process, self._caches.process, self._balancer, self._hosts, self.names,
        )  # fmt: skip
        for child in children:
            child.close()
        for child in children:
            child.stop()
        if self.data is not None:
            self.data.stop()
        self._router.stop()  # last: whoever is just joining waits for it

    def _start(self, module: str, on_event: OnEvent) -> Child:
        return Child(module, on_event, self.fabric.arguments(), self.fabric.descriptors())

    def _on_subnet(self, id_: str, network: IPv4Network) -> None:
        self._router.add_subnet(network, self.world.zone_of(id_))

    def _now(self) -> float:
        return self._time.at(time.monotonic())

    # -- instances

    def _sync_hosts(self) -> None:
        now = self._now()
        for host in self.world.hosts():
            runs = host.id in self._running
            if host.state == "running" and not runs:
                if self.names.server:  # what an instance asks first
                    self._launch(host)
            elif host.state != "running" and runs:
                del self._running[host.id]
                self._left_at[host.id] = now
                self._silent.add(host.id)
                operation = "stop" if host.state in ("stopping", "stopped") else "terminate"
                self._hosts.send({"op": operation, "instance": host.id})
            elif host.id in self._silent and now - self._left_at[host.id] > ADDRESS_SILENT_S:
                # Nobody can still be waiting for it: its silence need not be kept up.
                self._silent.remove(host.id)
                self._hosts.send({"op": "release", "instance": host.id})

    def _sync_links(self) -> None:
        """Have the kernel drop what network ACLs deny."""
        networks = self.addresses.networks
        doors = [(n, b["port"]) for b in self.world.balancers() for n in b["nodes"]]
        ports = frozenset(
            {
                _WEB_PORT,
                *(port for _, port in doors),
                *(database.port for database in self.databases.all()),
                *(group.port for group in self.caches.all()),
            }
        )
        state = (tuple(self.world.subnets(networks)), ports)
        if state == self._network:
            return
        self._network = state
        links = Links(dict(networks), frozenset(network_acls.cuts(*state)))
        self._router.connect(links.order())
        self._hosts.send(links.order())
        self._balancer.send(links.order())
        self._databases.process.connect(links.order())
        self._caches.process.connect(links.order())
        self._balancing.unheard(
            node["host"] for node, port in doors if ("", node["subnet"], port) in links.cut
        )

    def _sync_metadata(self) -> None:
        """Have the metadata service tell each instance what is so now."""
        now, unix_s = self._now(), time.time()

        def unix(aws_s: float) -> float:
            return unix_s + self._time.real(aws_s - now)

        told = {}
        targets = self.world.lifecycle_targets()
        for host in self._running.values():
            end = self.interruptions.of(host.id)
            told[host.address] = Instance(
                host,
                targets.get(host.id),
                unix(end.recommended_at) if end else None,
                unix(end.end_at) if end and now >= end.notice_at else None,
            )
        self._metadata.tell(told)

    def _launch(self, host: Host) -> None:
        self._running[host.id] = host
        self._left_at.pop(host.id, None)
        self._silent.discard(host.id)
        restart_s = host.user_data.restart_s
        self._hosts.send(
            {
                "op": "launch",
                "instance": host.id,
                "host": host.address,
                "port": _WEB_PORT,
                "workload": _program(host),
                "boot_s": self._time.real(host.boot_s) if self._up else 0.0,
                "restart_s": None if restart_s is None else self._time.real(restart_s),
                "environment": {
                    **self.variables,
                    **host.user_data.environment,
                    "INSTANCE_ID": host.id,
                    "AVAILABILITY_ZONE": host.zone,
                    "NAME_SERVER": self.names.server_within,
                    ENDPOINT_VARIABLE: self._metadata.url,
                    **self._heeding(host),
                },
            }
        )

    def _heeding(self, host: Host) -> dict[str, str]:
        """What the workload needs to heed an interruption notice, unless a tag says otherwise."""
        if host.tags.get("SpotWarnings") == "ignored":
            return {}
        waits = {"NOTICE_POLL_S": NOTICE_POLL_S, "DRAIN_S": DRAIN_S}
        return {name: str(self._time.real(wait_s)) for name, wait_s in waits.items()}

    def _reboot(self, instance: str) -> None:
        """It ends and boots again; EC2 keeps calling it running."""
        if instance in self._running:
            self._hosts.send({"op": "stop", "instance": instance})
            del self._running[instance]  # found missing, and launched, right after this call

    # -- balancers

    def _send_balancer(self, order: Mapping[str, object]) -> None:
        self._balancer.send(order)

    def _deliver_access_logs(self) -> None:
        while self._access_logs and self.data is not None:
            file = self._access_logs.popleft()
            try:
                self.data.put(file["bucket"], file["key"], b64decode(file["content"]))
            except LookupError as error:
                print(f"chaosgrade: an access log is lost: {error}", file=sys.stderr, flush=True)

    def _on_balancer(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "access_log":
            self._access_logs.append(event)
            return
        self._balancing.on_event(event)
        self._monitoring.on_event(event)

    def _place(self, target: str) -> Mapping[str, str]:
        host = self._running.get(target) or next(
            (host for host in self.world.hosts() if host.id == target), None
        )
        # Not an instance: a target by address.
        return {"host": host.address, "zone": host.zone} if host else {"host": target, "zone": ""}

    def _publish_balancers(self) -> None:
        records = self._balancer_names.records(self.world.balancers(), self._now())
        self.names.publish("balancers", records)

    # -- Systems Manager

    def _command(
        self, document: str, parameters: Mapping[str, list[str]], instance: str
    ) -> Invocation:
        try:
            return invoke(document, parameters, instance, self._hosts.ask)
        except TimeoutError:
            return Invocation("TimedOut", error="the instance did not answer", code=-1)


def _program(host: Host) -> str:
    """What of the sample workload it runs."""
    return host.user_data.program if host.user_data.program in _PROGRAMS else "web"


def _first_capacity(template: Template) -> float:
    text = template.parameters.get(POOLS_PARAMETER, "inf")
    try:
        capacity = float(text)
    except ValueError:
        capacity = math.nan
    if not capacity >= 0:
        raise UsageError(f"parameter {POOLS_PARAMETER} must be a number from 0 up, got {text!r}")
    return capacity
