"""Amazon ElastiCache on the stage."""

from chaosgrade.stage.operations.service import Service, because, each, emulated, real

_CACHES = "its caches are replication groups, as they were created"

ELASTICACHE = Service(
    "elasticache",
    "ElastiCache",
    "elasticache",
    played={
        "CreateReplicationGroup": real(
            "With engine `valkey`, one shard, cluster mode disabled; another engine, several "
            "shards, a password, TLS or a snapshot to begin with are `InvalidParameterValue`. It "
            "is `creating` until its servers answer and its replicas follow. Zones are those that "
            "were asked for, or those of the cache subnet group in its order; the first has the "
            "primary. Automatic failover without a replica, and Multi-AZ in one zone, are "
            "`InvalidParameterCombination`."
        ),
        "TestFailover": real(
            "The primary is killed; 30 s later (assumption: AWS documents no time) the replica "
            "with the least lag is promoted, roles swap and the primary endpoint follows. The "
            "killed node is replaced at once by an empty one with its name and address, which "
            "follows; `modifying` until then. Without automatic failover, or while it is "
            "`modifying`, `InvalidReplicationGroupState`."
        ),
        "DeleteReplicationGroup": real("The servers and what they hold are gone."),
        **each(
            real(
                "Status, roles and zones are those of the servers. The clusters are the nodes of "
                "replication groups."
            ),
            "DescribeReplicationGroups DescribeCacheClusters",
        ),
        "DescribeEvents": emulated(
            "The messages that AWS gives for a failover, among what was noted in the last hour or "
            "`Duration`."
        ),
    },
    refused={
        **because(_CACHES, "CreateCacheCluster DeleteCacheCluster ModifyReplicationGroup"),
        **because("its caches keep nothing but what is in memory", "CreateSnapshot DeleteSnapshot"),
        **because("its caches ask nobody for a password", "CreateUser DeleteUser"),
    },
    stored="""
        AddTagsToResource CreateCacheSubnetGroup DescribeCacheSubnetGroups DescribeSnapshots
        DescribeUsers ListTagsForResource RemoveTagsFromResource
    """,
)
