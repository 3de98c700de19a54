"""Amazon RDS on the stage."""

from chaosgrade.stage.operations.service import Service, because, emulated, real

_DATABASES = "its DB instances and DB clusters keep what they were created with"
_CLUSTERS = "it has DB instances and DB clusters of one Region, and no proxies"
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
            "promoted as if it did not. With `DBClusterIdentifier`, the first one in a cluster is "
            "its writer, others are readers, up to fifteen, each in the zone that has the fewest "
            "unless one was asked for."
        ),
        "CreateDBInstanceReadReplica": real(
            "A server that follows asynchronously, half a real second behind (assumption: AWS "
            "documents a metric and no value), with an endpoint of its own that can be read from. "
            "Not of a DB cluster."
        ),
        "PromoteReadReplica": real("It takes writes and follows no more."),
        "RebootDBInstance": real(
            "The server restarts in place and is down for 30 s (assumption) and the start itself; "
            "`rebooting` until then. A rebooted reader comes back from a fresh copy. With "
            "`ForceFailover` the primary is killed; 60 s later (AWS: "
            '"typically 60–120 seconds") the standby is promoted, `AvailabilityZone` and '
            "`SecondaryAvailabilityZone` swap, the endpoint leads to the new primary, and the old "
            "one rejoins as standby from a fresh copy; on a DB instance that is not "
            "Multi-AZ, members of DB clusters included, it is `InvalidParameterCombination`."
        ),
        "DeleteDBInstance": real(
            "The servers and their data are gone. Its read replicas are promoted. In a DB cluster "
            "a reader takes the writer's place at once, and the data of the last DB instance stays "
            "for the next; DB instances of a Multi-AZ DB cluster only go with it "
            "(`InvalidDBClusterStateFault`)."
        ),
        "CreateDBCluster": real(
            "With engine `aurora-postgresql` it is available at once and has no server; with "
            "`postgres` and `DBClusterInstanceClass` it is a Multi-AZ DB cluster, with the DB "
            "instances `…-instance-1` to `-3`. Its DB subnet group must cover two zones, or three. "
            "The tag `Replication` is heeded as that of a DB instance. Global databases, "
            "replication from elsewhere, Aurora Serverless v1 and passwords in Secrets Manager are "
            "`InvalidParameterValue`."
        ),
        "FailoverDBCluster": real(
            'The writer is killed; 30 s later (AWS: "less than 60 seconds, and often less than 30 '
            'seconds") the target is promoted, or the reader of the lowest `PromotionTier`. Until '
            "then the cluster is `failing-over` and can be read from; then `IsClusterWriter` and "
            "the cluster endpoint are the new writer's, and the old writer, `rebooting` until it "
            "is back, and the other readers begin anew from a fresh copy. Meanwhile the reader "
            "endpoint leads to the readers that are there, or else to the writer. Whoever was "
            "connected to the promoted reader stays so (assumption). Without a reader that is "
            "available, `InvalidDBClusterStateFault`; a target that is no reader is "
            "`InvalidParameterValue` (assumption)."
        ),
        "DeleteDBCluster": real(
            "Its data is gone. While it has DB instances, `InvalidDBClusterStateFault`, unless it "
            "is a Multi-AZ DB cluster."
        ),
        **dict.fromkeys(
            ("DescribeDBInstances", "DescribeDBClusters"),
            real("Status, zones and writer are those of the servers."),
        ),
        "DescribeEvents": emulated(
            "Category and message of RDS-EVENT-0013 (failover started), 0049 (failover completed) "
            "and 0006 (restarted); for clusters 0170 (created), 0072 and 0073 (failover started "
            "within the zone, to another zone), 0071 (failover completed), 0070 (the former writer "
            "is the writer again) and 0069 (failover failed); among those that moto keeps."
        ),
    },
    refused={
        **because(
            _DATABASES,
            "ModifyDBInstance StartDBInstance StopDBInstance SwitchoverReadReplica "
            "CreateBlueGreenDeployment ModifyDBCluster StartDBCluster StopDBCluster",
        ),
        **because(
            _CLUSTERS,
            "CreateGlobalCluster CreateDBShardGroup CreateDBProxy PromoteReadReplicaDBCluster",
        ),
        "RebootDBCluster": "it reboots DB instances, each by RebootDBInstance",
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
        CreateOptionGroup DeleteBlueGreenDeployment DeleteDBClusterParameterGroup
        DeleteDBClusterSnapshot DeleteDBParameterGroup DeleteDBProxy DeleteDBSecurityGroup
        DeleteDBSnapshot DeleteDBSubnetGroup DeleteEventSubscription DeleteGlobalCluster
        DeleteOptionGroup DeregisterDBProxyTargets DescribeBlueGreenDeployments
        DescribeDBClusterParameterGroups DescribeDBClusterParameters
        DescribeDBClusterSnapshotAttributes DescribeDBClusterSnapshots
        DescribeDBInstanceAutomatedBackups DescribeDBLogFiles DescribeDBParameterGroups
        DescribeDBParameters DescribeDBProxies DescribeDBProxyTargetGroups DescribeDBProxyTargets
        DescribeDBSecurityGroups DescribeDBShardGroups DescribeDBSnapshotAttributes
        DescribeDBSnapshots DescribeDBSubnetGroups DescribeEventSubscriptions DescribeExportTasks
        DescribeGlobalClusters DescribeOptionGroupOptions DescribeOptionGroups
        DescribeOrderableDBInstanceOptions ListTagsForResource
        ModifyDBClusterParameterGroup ModifyDBClusterSnapshotAttribute ModifyDBParameterGroup
        ModifyDBProxyTargetGroup ModifyDBSnapshotAttribute ModifyDBSubnetGroup ModifyOptionGroup
        RegisterDBProxyTargets RemoveFromGlobalCluster
        RemoveTagsFromResource StartExportTask
        SwitchoverBlueGreenDeployment
    """,
)
