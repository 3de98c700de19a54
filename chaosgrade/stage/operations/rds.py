"""Amazon RDS on the stage."""

from chaosgrade.stage.operations.service import Service, because, emulated, real

_INSTANCES = "its DB instances keep what they were created with"
_CLUSTERS = "it has DB instances, and no DB clusters or proxies"
_BACKUPS = "its snapshots hold no data"

RDS = Service(
    "rds",
    "RDS",
    "rds",
    played={
        "CreateDBInstance": real(
            "With engine `postgres`, `MasterUsername` and `MasterUserPassword`; another engine is "
            "`InvalidParameterValue`. It is `creating` until PostgreSQL takes connections. Zones "
            "are those of the DB subnet group, in its order; a Multi-AZ DB instance whose group "
            "covers one zone is `DBSubnetGroupDoesNotCoverEnoughAZs`. The tag `Replication` = "
            "`asynchronous` makes the standby lag by half a real second (assumption) and be "
            "promoted as if it did not."
        ),
        "CreateDBInstanceReadReplica": real(
            "A server that follows asynchronously, half a real second behind (assumption: AWS "
            "documents a metric and no value), with an endpoint of its own that can be read from."
        ),
        "PromoteReadReplica": real("It takes writes and follows no more."),
        "RebootDBInstance": real(
            "The server restarts in place and is down for 30 s (assumption) and the start itself; "
            "`rebooting` until then. With `ForceFailover` the primary is killed; 60 s later (AWS: "
            '"typically 60–120 seconds") the standby is promoted, `AvailabilityZone` and '
            "`SecondaryAvailabilityZone` swap, the endpoint leads to the new primary, and the old "
            "one rejoins as standby from a fresh copy; on a DB instance that is not Multi-AZ it "
            "is `InvalidParameterCombination`."
        ),
        "DeleteDBInstance": real(
            "The servers and their data are gone. Its read replicas are promoted."
        ),
        "DescribeDBInstances": real("Status and zones are those of the servers."),
        "DescribeEvents": emulated(
            "Category and message of RDS-EVENT-0013 (failover started), 0049 (failover completed) "
            "and 0006 (restarted), among those that moto keeps."
        ),
    },
    refused={
        **because(
            _INSTANCES,
            "ModifyDBInstance StartDBInstance StopDBInstance SwitchoverReadReplica "
            "CreateBlueGreenDeployment",
        ),
        **because(
            _CLUSTERS,
            "CreateDBCluster FailoverDBCluster RebootDBCluster CreateGlobalCluster "
            "CreateDBShardGroup CreateDBProxy",
        ),
        **because(
            _BACKUPS,
            "RestoreDBInstanceFromDBSnapshot RestoreDBInstanceToPointInTime "
            "RestoreDBInstanceFromS3 RestoreDBClusterFromSnapshot RestoreDBClusterToPointInTime",
        ),
        "CreateEventSubscription": "it notifies nobody of its events; call DescribeEvents",
    },
    stored="""
        AddRoleToDBCluster AddRoleToDBInstance AddTagsToResource AuthorizeDBSecurityGroupIngress
        CancelExportTask CopyDBClusterParameterGroup CopyDBClusterSnapshot CopyDBParameterGroup
        CopyDBSnapshot CreateDBClusterParameterGroup CreateDBClusterSnapshot
        CreateDBParameterGroup CreateDBSecurityGroup CreateDBSnapshot CreateDBSubnetGroup
        CreateOptionGroup DeleteBlueGreenDeployment DeleteDBCluster DeleteDBClusterParameterGroup
        DeleteDBClusterSnapshot DeleteDBParameterGroup DeleteDBProxy DeleteDBSecurityGroup
        DeleteDBSnapshot DeleteDBSubnetGroup DeleteEventSubscription DeleteGlobalCluster
        DeleteOptionGroup DeregisterDBProxyTargets DescribeBlueGreenDeployments
        DescribeDBClusterParameterGroups DescribeDBClusterParameters
        DescribeDBClusterSnapshotAttributes DescribeDBClusterSnapshots DescribeDBClusters
        DescribeDBInstanceAutomatedBackups DescribeDBLogFiles DescribeDBParameterGroups
        DescribeDBParameters DescribeDBProxies DescribeDBProxyTargetGroups DescribeDBProxyTargets
        DescribeDBSecurityGroups DescribeDBShardGroups DescribeDBSnapshotAttributes
        DescribeDBSnapshots DescribeDBSubnetGroups DescribeEventSubscriptions DescribeExportTasks
        DescribeGlobalClusters DescribeOptionGroupOptions DescribeOptionGroups
        DescribeOrderableDBInstanceOptions ListTagsForResource ModifyDBCluster
        ModifyDBClusterParameterGroup ModifyDBClusterSnapshotAttribute ModifyDBParameterGroup
        ModifyDBProxyTargetGroup ModifyDBSnapshotAttribute ModifyDBSubnetGroup ModifyOptionGroup
        PromoteReadReplicaDBCluster RegisterDBProxyTargets RemoveFromGlobalCluster
        RemoveTagsFromResource StartDBCluster StartExportTask StopDBCluster
        SwitchoverBlueGreenDeployment
    """,
)
