"""AWS Fault Injection Service on the stage."""

from chaosgrade.stage.operations.service import Service, because, each, emulated, real

_FIXED = "an experiment template is as it was made, in one account"

FIS = Service(
    "fis",
    "Fault Injection Service",
    "fis",
    played={
        "CreateExperimentTemplate": emulated(
            "Checked and kept. An action that is not played, a wrong parameter or target, or a "
            "stop condition other than `none` is a `ValidationException`."
        ),
        "StartExperiment": real(
            "`pending` and `initiating` for 2 s each (assumption), then targets are resolved by "
            "ARN, tags, filters (`InstanceType`, `Placement.AvailabilityZone`, `State.Name`, "
            "`SubnetId`) and selection mode; without any the experiment is `failed`, or the "
            "action skipped if the template says so. Then it is `running` until its actions are "
            "over, and `completed`."
        ),
        "StopExperiment": real(
            "Lifts the denial of launches and takes back recommendations; an instance that has "
            "its interruption notice is terminated all the same (assumption)."
        ),
        **each(
            emulated("As it is. Nothing is sent to EventBridge."),
            "GetExperiment ListExperiments ListExperimentResolvedTargets GetExperimentTemplate "
            "ListExperimentTemplates DeleteExperimentTemplate",
        ),
    },
    refused={
        **because(
            _FIXED,
            "CreateTargetAccountConfiguration UpdateTargetAccountConfiguration "
            "DeleteTargetAccountConfiguration UpdateExperimentTemplate",
        ),
    },
    stored="""
        GetExperimentTargetAccountConfiguration GetTargetAccountConfiguration
        ListExperimentTargetAccountConfigurations ListTagsForResource
        ListTargetAccountConfigurations TagResource UntagResource
    """,
)
