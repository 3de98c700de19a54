"""An account in moto to break, and what of it must be as before."""

from dataclasses import dataclass
from typing import Any

import boto3

REGION = "us-east-1"
ZONE = "us-east-1a"
OPT_IN = {"Key": "chaosgrade", "Value": "allowed"}


@dataclass(frozen=True)
class Inventory:
    """Ids of what was made.

    Args:
        vpcs: each with subnets in two zones.
        subnets: all, by zone.
        groups: names of Auto Scaling groups over both zones.
        instances: ids of the groups' instances and of single ones, by zone.
        target_group: ARN of a target group with the instances of the first group.
    """

    vpcs: tuple[str, ...]
    subnets: dict[str, tuple[str, ...]]
    groups: tuple[str, ...]
    instances: dict[str, tuple[str, ...]]
    target_group: str


class Account:
    """boto3 clients of one moto, and the state that chaosgrade may change.

    Args:
        endpoint_url: None for moto within this process.
    """

    def __init__(self, endpoint_url: str | None = None) -> None:
        keys = {"aws_access_key_id": "moto", "aws_secret_access_key": "moto"}

        def client(service: str) -> Any:
            return boto3.client(service, region_name=REGION, endpoint_url=endpoint_url, **keys)

        self.ec2, self.autoscaling = client("ec2"), client("autoscaling")
        self.elbv2 = client("elbv2")

    def build(
        self, *, vpcs: int = 2, subnets: int = 2, groups: int = 2, instances: int = 1
    ) -> Inventory:
        """Make VPCs with `subnets` in each of two zones, groups over both, single instances."""
        zones = (ZONE, "us-east-1b")
        for subnet in self._pages(self.ec2, "describe_subnets", "Subnets"):
            self.ec2.delete_subnet(SubnetId=subnet["SubnetId"])  # the default VPC's
        made: dict[str, list[str]] = {zone: [] for zone in zones}
        vpc_ids = []
        for number in range(vpcs):
            vpc = self.ec2.create_vpc(CidrBlock=f"10.{number}.0.0/16")["Vpc"]["VpcId"]
            vpc_ids.append(vpc)
            for which in range(subnets * len(zones)):
                subnet = self.ec2.create_subnet(
                    VpcId=vpc,
                    CidrBlock=f"10.{number}.{which * 16}.0/20"
                    if subnets * len(zones) <= 16
                    else f"10.{number}.{which}.0/24",
                    AvailabilityZone=zones[which % 2],
                    TagSpecifications=[{"ResourceType": "subnet", "Tags": [OPT_IN]}],
                )["Subnet"]
                made[zones[which % 2]].append(subnet["SubnetId"])
        # One subnet has an ACL of its own: not everything goes back to the default.
        own = self.ec2.create_network_acl(VpcId=vpc_ids[0])["NetworkAcl"]["NetworkAclId"]
        self.associate(made[ZONE][0], own)
        image = "ami-0c101f26f147fa7fd"
        names = tuple(f"group-{number}" for number in range(groups))
        if names:
            self.autoscaling.create_launch_configuration(
                LaunchConfigurationName="small", ImageId=image, InstanceType="t3.nano"
            )
        for name in names:
            self.autoscaling.create_auto_scaling_group(
                AutoScalingGroupName=name,
                LaunchConfigurationName="small",
                MinSize=0,
                MaxSize=9,
                DesiredCapacity=2,
                VPCZoneIdentifier=f"{made[zones[0]][0]},{made[zones[1]][0]}",
                Tags=[{**OPT_IN, "PropagateAtLaunch": True}],
            )
        if names:
            # What was suspended before stays so afterwards.
            self.autoscaling.suspend_processes(
                AutoScalingGroupName=names[-1], ScalingProcesses=["AZRebalance"]
            )
        for zone in zones:
            if instances:
                self.ec2.run_instances(
                    ImageId=image,
                    MinCount=instances,
                    MaxCount=instances,
                    SubnetId=made[zone][-1],
                    TagSpecifications=[{"ResourceType": "instance", "Tags": [OPT_IN]}],
                )
        running: dict[str, list[str]] = {zone: [] for zone in zones}
        for instance in self._instances():
            running[instance["Placement"]["AvailabilityZone"]].append(instance["InstanceId"])
        group = self.elbv2.create_target_group(
            Name="web", Protocol="HTTP", Port=80, VpcId=vpc_ids[0], TargetType="instance",
            Tags=[OPT_IN],
        )["TargetGroups"][0]["TargetGroupArn"]  # fmt: skip
        targets = [{"Id": i, "Port": 80} for ids in running.values() for i in ids]
        if targets:
            self.elbv2.register_targets(TargetGroupArn=group, Targets=targets)
        return Inventory(
            tuple(vpc_ids),
            {zone: tuple(ids) for zone, ids in made.items()},
            names,
            {zone: tuple(sorted(ids)) for zone, ids in running.items()},
            group,
        )

    def state(self) -> dict[str, Any]:
        """Everything that chaosgrade could have left changed."""
        acls = self._pages(self.ec2, "describe_network_acls", "NetworkAcls")
        groups = self._pages(self.autoscaling, "describe_auto_scaling_groups", "AutoScalingGroups")
        registered = {
            group["TargetGroupArn"]: sorted(
                health["Target"]["Id"]
                for health in self.elbv2.describe_target_health(
                    TargetGroupArn=group["TargetGroupArn"]
                )["TargetHealthDescriptions"]
                if health["TargetHealth"]["State"] != "draining"
            )
            for group in self.elbv2.describe_target_groups()["TargetGroups"]
        }
        return {
            "acls": sorted(acl["NetworkAclId"] for acl in acls),
            "subnets": {
                association["SubnetId"]: acl["NetworkAclId"]
                for acl in acls
                for association in acl["Associations"]
            },
            "suspended": {
                group["AutoScalingGroupName"]: sorted(
                    process["ProcessName"] for process in group["SuspendedProcesses"]
                )
                for group in groups
            },
            "instances": {i["InstanceId"]: i["State"]["Name"] for i in self._instances()},
            "targets": registered,
        }

    def dark(self) -> list[str]:
        """Subnets whose network ACL is a blocking one."""
        return sorted(
            association["SubnetId"]
            for acl in self._pages(self.ec2, "describe_network_acls", "NetworkAcls")
            for association in acl["Associations"]
            if any(tag["Key"] == "chaosgrade:acl" for tag in acl["Tags"])
        )

    def associate(self, subnet: str, acl: str) -> None:
        for described in self._pages(self.ec2, "describe_network_acls", "NetworkAcls"):
            for association in described["Associations"]:
                if association["SubnetId"] == subnet:
                    self.ec2.replace_network_acl_association(
                        AssociationId=association["NetworkAclAssociationId"], NetworkAclId=acl
                    )

    def _instances(self) -> list[dict[str, Any]]:
        reservations = self._pages(self.ec2, "describe_instances", "Reservations")
        return [instance for r in reservations for instance in r["Instances"]]

    @staticmethod
    def _pages(client: Any, operation: str, key: str) -> list[dict[str, Any]]:
        return [item for page in client.get_paginator(operation).paginate() for item in page[key]]
