"""Services that keep what they are given; nothing of the stage follows from it."""

from chaosgrade.stage.operations.service import Service

STORED_SERVICES = (
    Service(
        "logs",
        "CloudWatch Logs",
        "logs",
        stored="""
            CancelExportTask CreateDelivery CreateExportTask CreateLogGroup CreateLogStream
            DeleteDelivery DeleteDeliveryDestination DeleteDeliveryDestinationPolicy
            DeleteDeliverySource DeleteDestination DeleteLogGroup DeleteLogStream
            DeleteMetricFilter DeleteResourcePolicy DeleteRetentionPolicy
            DeleteSubscriptionFilter DescribeDeliveries DescribeDeliveryDestinations
            DescribeDeliverySources DescribeDestinations DescribeExportTasks
            DescribeLogGroups DescribeLogStreams DescribeMetricFilters DescribeQueries
            DescribeResourcePolicies DescribeSubscriptionFilters FilterLogEvents GetDelivery
            GetDeliveryDestination GetDeliveryDestinationPolicy GetDeliverySource
            GetLogEvents GetQueryResults ListTagsForResource ListTagsLogGroup
            PutDeliveryDestination PutDeliveryDestinationPolicy PutDeliverySource
            PutDestination PutDestinationPolicy PutLogEvents PutMetricFilter
            PutResourcePolicy PutRetentionPolicy PutSubscriptionFilter StartLiveTail
            StartQuery TagLogGroup TagResource UntagLogGroup UntagResource
        """,
    ),
    Service(
        "dynamodb",
        "DynamoDB",
        "dynamodb",
        stored="""
            BatchExecuteStatement BatchGetItem BatchWriteItem CreateBackup CreateTable
            DeleteBackup DeleteItem DeleteResourcePolicy DeleteTable DescribeBackup
            DescribeContinuousBackups DescribeEndpoints DescribeExport DescribeImport
            DescribeLimits DescribeTable DescribeTimeToLive ExecuteStatement
            ExecuteTransaction ExportTableToPointInTime GetItem GetResourcePolicy
            ImportTable ListBackups ListExports ListTables ListTagsOfResource PutItem
            PutResourcePolicy Query RestoreTableFromBackup RestoreTableToPointInTime Scan
            TagResource TransactGetItems TransactWriteItems UntagResource
            UpdateContinuousBackups UpdateItem UpdateTable UpdateTimeToLive
        """,
    ),
    Service(
        "dynamodbstreams",
        "DynamoDB Streams",
        "dynamodb",
        stored="""
            DescribeStream GetRecords GetShardIterator ListStreams
        """,
    ),
    Service(
        "events",
        "EventBridge",
        "events",
        stored="""
            CancelReplay CreateApiDestination CreateArchive CreateConnection CreateEventBus
            CreatePartnerEventSource DeleteApiDestination DeleteArchive DeleteConnection
            DeleteEventBus DeletePartnerEventSource DeleteRule DescribeApiDestination
            DescribeArchive DescribeConnection DescribeEventBus DescribeEventSource
            DescribePartnerEventSource DescribeReplay DescribeRule DisableRule EnableRule
            ListApiDestinations ListArchives ListConnections ListEventBuses ListReplays
            ListRuleNamesByTarget ListRules ListTagsForResource ListTargetsByRule PutEvents
            PutPartnerEvents PutPermission PutRule PutTargets RemovePermission RemoveTargets
            StartReplay TagResource TestEventPattern UntagResource UpdateApiDestination
            UpdateArchive UpdateConnection
        """,
    ),
    Service(
        "iam",
        "IAM",
        "iam",
        stored="""
            AddRoleToInstanceProfile AddUserToGroup AttachGroupPolicy AttachRolePolicy
            AttachUserPolicy CreateAccessKey CreateAccountAlias CreateGroup
            CreateInstanceProfile CreateLoginProfile CreateOpenIDConnectProvider
            CreatePolicy CreatePolicyVersion CreateRole CreateSAMLProvider
            CreateServiceLinkedRole CreateUser CreateVirtualMFADevice DeactivateMFADevice
            DeleteAccessKey DeleteAccountAlias DeleteAccountPasswordPolicy DeleteGroup
            DeleteGroupPolicy DeleteInstanceProfile DeleteLoginProfile
            DeleteOpenIDConnectProvider DeletePolicy DeletePolicyVersion DeleteRole
            DeleteRolePermissionsBoundary DeleteRolePolicy DeleteSAMLProvider
            DeleteSSHPublicKey DeleteServerCertificate DeleteServiceLinkedRole
            DeleteSigningCertificate DeleteUser DeleteUserPolicy DeleteVirtualMFADevice
            DetachGroupPolicy DetachRolePolicy DetachUserPolicy EnableMFADevice
            GenerateCredentialReport GetAccessKeyLastUsed GetAccountAuthorizationDetails
            GetAccountPasswordPolicy GetAccountSummary GetCredentialReport GetGroup
            GetGroupPolicy GetInstanceProfile GetLoginProfile GetOpenIDConnectProvider
            GetPolicy GetPolicyVersion GetRole GetRolePolicy GetSAMLProvider GetSSHPublicKey
            GetServerCertificate GetServiceLinkedRoleDeletionStatus GetUser GetUserPolicy
            ListAccessKeys ListAccountAliases ListAttachedGroupPolicies
            ListAttachedRolePolicies ListAttachedUserPolicies ListEntitiesForPolicy
            ListGroupPolicies ListGroups ListGroupsForUser ListInstanceProfiles
            ListInstanceProfilesForRole ListMFADevices ListOpenIDConnectProviderTags
            ListOpenIDConnectProviders ListPolicies ListPolicyTags ListPolicyVersions
            ListRolePolicies ListRoleTags ListRoles ListSAMLProviders ListSSHPublicKeys
            ListServerCertificates ListSigningCertificates ListUserPolicies ListUserTags
            ListUsers ListVirtualMFADevices PutGroupPolicy PutRolePermissionsBoundary
            PutRolePolicy PutUserPolicy RemoveRoleFromInstanceProfile RemoveUserFromGroup
            SetDefaultPolicyVersion TagInstanceProfile TagOpenIDConnectProvider TagPolicy
            TagRole TagUser UntagInstanceProfile UntagOpenIDConnectProvider UntagPolicy
            UntagRole UntagUser UpdateAccessKey UpdateAccountPasswordPolicy
            UpdateAssumeRolePolicy UpdateGroup UpdateLoginProfile
            UpdateOpenIDConnectProviderThumbprint UpdateRole UpdateRoleDescription
            UpdateSAMLProvider UpdateSSHPublicKey UpdateSigningCertificate UpdateUser
            UploadSSHPublicKey UploadServerCertificate UploadSigningCertificate
        """,
    ),
    Service(
        "kms",
        "KMS",
        "kms",
        stored="""
            CancelKeyDeletion CreateAlias CreateGrant CreateKey Decrypt DeleteAlias
            DescribeKey DisableKey DisableKeyRotation EnableKey EnableKeyRotation Encrypt
            GenerateDataKey GenerateDataKeyWithoutPlaintext GenerateMac GenerateRandom
            GetKeyPolicy GetKeyRotationStatus GetPublicKey ListAliases ListGrants
            ListKeyPolicies ListKeyRotations ListKeys ListResourceTags ListRetirableGrants
            PutKeyPolicy ReEncrypt ReplicateKey RetireGrant RevokeGrant RotateKeyOnDemand
            ScheduleKeyDeletion Sign TagResource UntagResource UpdateAlias
            UpdateKeyDescription Verify VerifyMac
        """,
    ),
    Service(
        "resourcegroupstaggingapi",
        "Resource Groups Tagging API",
        "tagging",
        stored="""
            GetResources GetTagKeys GetTagValues TagResources UntagResources
        """,
    ),
    Service(
        "s3",
        "S3",
        "s3",
        stored="""
            AbortMultipartUpload CompleteMultipartUpload CopyObject CreateBucket
            CreateMultipartUpload DeleteBucket DeleteBucketCors DeleteBucketEncryption
            DeleteBucketLifecycle DeleteBucketOwnershipControls DeleteBucketPolicy
            DeleteBucketReplication DeleteBucketTagging DeleteBucketWebsite DeleteObject
            DeleteObjectTagging DeleteObjects DeletePublicAccessBlock
            GetBucketAccelerateConfiguration GetBucketAcl GetBucketCors GetBucketEncryption
            GetBucketInventoryConfiguration GetBucketLifecycle
            GetBucketLifecycleConfiguration GetBucketLocation GetBucketLogging
            GetBucketNotification GetBucketNotificationConfiguration
            GetBucketOwnershipControls GetBucketPolicy GetBucketPolicyStatus
            GetBucketReplication GetBucketTagging GetBucketVersioning GetBucketWebsite
            GetObject GetObjectAcl GetObjectAttributes GetObjectLegalHold
            GetObjectLockConfiguration GetObjectTagging GetPublicAccessBlock HeadBucket
            HeadObject ListBucketInventoryConfigurations ListBuckets ListMultipartUploads
            ListObjectVersions ListObjects ListObjectsV2 ListParts
            PutBucketAccelerateConfiguration PutBucketAcl PutBucketCors PutBucketEncryption
            PutBucketInventoryConfiguration PutBucketLifecycle
            PutBucketLifecycleConfiguration PutBucketLogging PutBucketNotification
            PutBucketNotificationConfiguration PutBucketOwnershipControls PutBucketPolicy
            PutBucketReplication PutBucketTagging PutBucketVersioning PutBucketWebsite
            PutObject PutObjectAcl PutObjectLegalHold PutObjectLockConfiguration
            PutObjectRetention PutObjectTagging PutPublicAccessBlock RestoreObject
            SelectObjectContent UploadPart UploadPartCopy
        """,
    ),
    Service(
        "secretsmanager",
        "Secrets Manager",
        "secretsmanager",
        stored="""
            BatchGetSecretValue CancelRotateSecret CreateSecret DeleteResourcePolicy
            DeleteSecret DescribeSecret GetRandomPassword GetResourcePolicy GetSecretValue
            ListSecretVersionIds ListSecrets PutResourcePolicy PutSecretValue
            RemoveRegionsFromReplication ReplicateSecretToRegions RestoreSecret RotateSecret
            TagResource UntagResource UpdateSecret UpdateSecretVersionStage
        """,
    ),
    Service(
        "sns",
        "SNS",
        "sns",
        stored="""
            AddPermission CheckIfPhoneNumberIsOptedOut ConfirmSubscription
            CreatePlatformApplication CreatePlatformEndpoint CreateTopic DeleteEndpoint
            DeletePlatformApplication DeleteTopic GetEndpointAttributes
            GetPlatformApplicationAttributes GetSMSAttributes GetSubscriptionAttributes
            GetTopicAttributes ListEndpointsByPlatformApplication ListPhoneNumbersOptedOut
            ListPlatformApplications ListSubscriptions ListSubscriptionsByTopic
            ListTagsForResource ListTopics OptInPhoneNumber Publish PublishBatch
            RemovePermission SetEndpointAttributes SetPlatformApplicationAttributes
            SetSMSAttributes SetSubscriptionAttributes SetTopicAttributes Subscribe
            TagResource Unsubscribe UntagResource
        """,
    ),
    Service(
        "sqs",
        "SQS",
        "sqs",
        stored="""
            AddPermission ChangeMessageVisibility ChangeMessageVisibilityBatch CreateQueue
            DeleteMessage DeleteMessageBatch DeleteQueue GetQueueAttributes GetQueueUrl
            ListDeadLetterSourceQueues ListQueueTags ListQueues PurgeQueue ReceiveMessage
            RemovePermission SendMessage SendMessageBatch SetQueueAttributes TagQueue
            UntagQueue
        """,
    ),
    Service(
        "sts",
        "STS",
        "sts",
        stored="""
            AssumeRole AssumeRoleWithSAML AssumeRoleWithWebIdentity GetAccessKeyInfo
            GetCallerIdentity GetFederationToken GetSessionToken
        """,
    ),
)
