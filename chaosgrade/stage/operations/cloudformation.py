"""AWS CloudFormation on the stage."""

from chaosgrade.stage.operations.service import Service, because

_STACKS = "its stack is made when it starts; give the template to: chaosgrade stage up --template"

CLOUDFORMATION = Service(
    "cloudformation",
    "CloudFormation",
    "cloudformation",
    refused={
        **because(
            _STACKS,
            "CreateStack UpdateStack DeleteStack CreateChangeSet ExecuteChangeSet CreateStackSet "
            "CreateStackInstances",
        ),
        "ValidateTemplate": "a template is checked when it is given to: chaosgrade stage up",
    },
    stored="""
        DeleteChangeSet DeleteStackInstances DeleteStackSet DescribeChangeSet DescribeStackEvents
        DescribeStackInstance DescribeStackResource DescribeStackResources DescribeStackSet
        DescribeStackSetOperation DescribeStacks GetStackPolicy GetTemplate GetTemplateSummary
        ListChangeSets ListExports ListStackInstances ListStackResources
        ListStackSetOperationResults ListStackSetOperations ListStackSets ListStacks
        SetStackPolicy StopStackSetOperation UpdateStackInstances UpdateStackSet
    """,
)
