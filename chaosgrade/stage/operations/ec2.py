"""Amazon EC2 on the stage."""

from chaosgrade.stage.operations.service import Service, because, each, emulated, real

_NETWORK = "of the network it plays network ACLs"
_SPOT = "its Spot Instances come from Auto Scaling groups and RunInstances"
_ACL = real(
    "The kernel drops what the rules of a subnet's network ACL deny, and lets go of what they "
    "allow again: connecting hangs, established connections stall and heal."
)

EC2 = Service(
    "ec2",
    "EC2",
    "ec2",
    played={
        "RunInstances": real(
            "A process per instance at an address of its own, which is its `PrivateIpAddress`. It "
            "serves the sample workload on port 8080, after the seconds in its tag `BootSeconds`. "
            "Of its user data, lines `export NAME=VALUE` are the process's environment, and `exec "
            "…/worker` makes it one of the worker tier; the script is not run otherwise. With "
            "`InstanceMarketOptions` it is a Spot Instance, with a one-time request: it cannot be "
            "stopped (`UnsupportedOperation`). Into a pool without room, as with "
            "`StartInstances`: `InsufficientInstanceCapacity`; with HTTP status 400 where AWS "
            "answers 500, so that SDKs do not retry for seconds."
        ),
        "TerminateInstances": real(
            "The process is killed. Its address answers nothing: connecting hangs, as to a host "
            "that is gone; it is never refused. Its target stays registered, `unused` with "
            "`Target.InvalidState` after 20 s at the latest (assumption: AWS documents the state, "
            "not the delay), until its Auto Scaling group or a caller deregisters it."
        ),
        **each(
            real("The same silence; started again, it boots at the same address."),
            "StopInstances StartInstances",
        ),
        "RebootInstances": real(
            "The process ends and boots again; EC2 calls the instance running throughout, as on "
            "AWS."
        ),
        "DescribeInstances": real("State and addresses are those of the processes."),
        "DescribeSpotInstanceRequests": emulated(
            "The request of each Spot Instance: `fulfilled`, `marked-for-termination` from the "
            "interruption notice on, `instance-terminated-by-experiment` or "
            "`instance-terminated-by-user`."
        ),
        "CancelSpotInstanceRequests": emulated(
            "`request-canceled-and-instance-running`: as on AWS, the instance goes on."
        ),
        "CreateNetworkAcl": emulated("As on AWS it begins with a rule that denies everything."),
        **each(
            _ACL,
            "CreateNetworkAclEntry ReplaceNetworkAclEntry DeleteNetworkAclEntry "
            "ReplaceNetworkAclAssociation",
        ),
    },
    refused={
        **because(
            _NETWORK,
            "RevokeSecurityGroupIngress RevokeSecurityGroupEgress DeleteRoute ReplaceRoute "
            "DisassociateRouteTable ReplaceRouteTableAssociation DetachInternetGateway "
            "DetachNetworkInterface DisassociateAddress DeleteNatGateway DeleteVpcEndpoints "
            "DeleteVpcPeeringConnection DeleteTransitGatewayRoute",
        ),
        "DetachVolume": "its instances have no volumes",
        **because(_SPOT, "CreateFleet RequestSpotFleet RequestSpotInstances"),
    },
    stored="""
        AcceptTransitGatewayPeeringAttachment AcceptVpcPeeringConnection AllocateAddress
        AllocateHosts AssignIpv6Addresses AssignPrivateIpAddresses AssociateAddress
        AssociateDhcpOptions AssociateIamInstanceProfile AssociateRouteTable
        AssociateSubnetCidrBlock AssociateTransitGatewayRouteTable AssociateVpcCidrBlock
        AttachInternetGateway AttachNetworkInterface AttachVolume AttachVpnGateway
        AuthorizeSecurityGroupEgress AuthorizeSecurityGroupIngress CancelSpotFleetRequests
        CopyImage CopySnapshot CreateCarrierGateway CreateCustomerGateway CreateDefaultSubnet
        CreateDefaultVpc CreateDhcpOptions CreateEgressOnlyInternetGateway CreateFlowLogs
        CreateImage CreateInternetGateway CreateKeyPair CreateLaunchTemplate
        CreateLaunchTemplateVersion CreateManagedPrefixList CreateNatGateway
        CreateNetworkInterface CreateRoute CreateRouteTable CreateSecurityGroup CreateSnapshot
        CreateSnapshots CreateSubnet CreateSubnetCidrReservation CreateTags
        CreateTrafficMirrorFilter CreateTrafficMirrorSession CreateTrafficMirrorTarget
        CreateTransitGateway CreateTransitGatewayPeeringAttachment CreateTransitGatewayRoute
        CreateTransitGatewayRouteTable CreateTransitGatewayVpcAttachment CreateVolume CreateVpc
        CreateVpcEndpoint CreateVpcEndpointServiceConfiguration CreateVpcPeeringConnection
        CreateVpnConnection CreateVpnGateway DeleteCarrierGateway DeleteCustomerGateway
        DeleteDhcpOptions DeleteEgressOnlyInternetGateway DeleteFleets DeleteFlowLogs
        DeleteInternetGateway DeleteKeyPair DeleteLaunchTemplate DeleteManagedPrefixList
        DeleteNetworkAcl DeleteNetworkInterface DeleteRouteTable DeleteSecurityGroup
        DeleteSnapshot DeleteSubnet DeleteSubnetCidrReservation DeleteTags
        DeleteTrafficMirrorSession DeleteTransitGateway DeleteTransitGatewayPeeringAttachment
        DeleteTransitGatewayRouteTable DeleteTransitGatewayVpcAttachment DeleteVolume DeleteVpc
        DeleteVpcEndpointServiceConfigurations DeleteVpnConnection DeleteVpnGateway
        DeregisterImage DescribeAccountAttributes DescribeAddresses DescribeAddressesAttribute
        DescribeAvailabilityZones DescribeCarrierGateways DescribeCustomerGateways
        DescribeDhcpOptions DescribeEgressOnlyInternetGateways DescribeFleetInstances
        DescribeFleets DescribeFlowLogs DescribeHosts DescribeIamInstanceProfileAssociations
        DescribeImageAttribute DescribeImages DescribeInstanceAttribute
        DescribeInstanceCreditSpecifications DescribeInstanceStatus DescribeInstanceTypeOfferings
        DescribeInstanceTypes DescribeInternetGateways DescribeKeyPairs
        DescribeLaunchTemplateVersions DescribeLaunchTemplates DescribeManagedPrefixLists
        DescribeNatGateways DescribeNetworkAcls DescribeNetworkInterfaceAttribute
        DescribeNetworkInterfaces DescribePrefixLists DescribeRegions
        DescribeReservedInstancesOfferings DescribeRouteTables DescribeSecurityGroupRules
        DescribeSecurityGroups DescribeSnapshotAttribute DescribeSnapshotTierStatus
        DescribeSnapshots DescribeSpotFleetInstances DescribeSpotFleetRequests
        DescribeSpotPriceHistory DescribeSubnets DescribeTags DescribeTrafficMirrorFilters
        DescribeTrafficMirrorSessions DescribeTrafficMirrorTargets
        DescribeTransitGatewayAttachments DescribeTransitGatewayPeeringAttachments
        DescribeTransitGatewayRouteTables DescribeTransitGatewayVpcAttachments
        DescribeTransitGateways DescribeVolumes DescribeVolumesModifications DescribeVpcAttribute
        DescribeVpcClassicLink DescribeVpcClassicLinkDnsSupport
        DescribeVpcEndpointServiceConfigurations DescribeVpcEndpointServicePermissions
        DescribeVpcEndpointServices DescribeVpcEndpoints DescribeVpcPeeringConnections
        DescribeVpcs DescribeVpnConnections DescribeVpnGateways DetachVpnGateway
        DisableEbsEncryptionByDefault DisableImage DisableTransitGatewayRouteTablePropagation
        DisableVpcClassicLink DisableVpcClassicLinkDnsSupport DisassociateIamInstanceProfile
        DisassociateSubnetCidrBlock DisassociateTransitGatewayRouteTable DisassociateVpcCidrBlock
        EnableEbsEncryptionByDefault EnableImage EnableTransitGatewayRouteTablePropagation
        EnableVpcClassicLink EnableVpcClassicLinkDnsSupport GetConsoleOutput
        GetEbsEncryptionByDefault GetInstanceUefiData GetLaunchTemplateData
        GetManagedPrefixListEntries GetPasswordData GetSubnetCidrReservations
        GetTransitGatewayRouteTableAssociations GetTransitGatewayRouteTablePropagations
        ImportKeyPair ModifyEbsDefaultKmsKeyId ModifyHosts ModifyImageAttribute
        ModifyInstanceAttribute ModifyInstanceMetadataOptions ModifyLaunchTemplate
        ModifyManagedPrefixList ModifyNetworkInterfaceAttribute ModifySecurityGroupRules
        ModifySnapshotAttribute ModifySnapshotTier ModifySpotFleetRequest ModifySubnetAttribute
        ModifyTrafficMirrorSession ModifyTransitGateway ModifyTransitGatewayVpcAttachment
        ModifyVolume ModifyVpcAttribute ModifyVpcEndpoint ModifyVpcEndpointServiceConfiguration
        ModifyVpcEndpointServicePermissions ModifyVpcPeeringConnectionOptions ModifyVpcTenancy
        RegisterImage RejectTransitGatewayPeeringAttachment RejectVpcPeeringConnection
        ReleaseAddress ReleaseHosts ReplaceIamInstanceProfileAssociation RestoreSnapshotTier
        SearchTransitGatewayRoutes UnassignIpv6Addresses UnassignPrivateIpAddresses
        UpdateSecurityGroupRuleDescriptionsEgress UpdateSecurityGroupRuleDescriptionsIngress
    """,
)
