"""AWS Systems Manager on the stage."""

from chaosgrade.stage.operations.service import Service, each, real

SSM = Service(
    "ssm",
    "Systems Manager",
    "ssm",
    played={
        "SendCommand": real(
            "With `AWSFIS-Run-Kill-Process`: sends `Signal` to the process `ProcessName` of the "
            "instance. With `AWS-RunShellScript`: answers exactly `ps -o stat= -C NAME`; there is "
            "no shell, and other commands fail and say so in the invocation's error output. "
            "Another document is `InvalidDocument`; an instance that does not run, "
            "`InvalidInstanceId`. Targets by tag reach running instances only."
        ),
        **each(
            real("Status, exit code and output of what ran."), "GetCommandInvocation ListCommands"
        ),
    },
    stored="""
        AddTagsToResource CreateDocument CreateMaintenanceWindow CreatePatchBaseline
        DeleteDocument DeleteMaintenanceWindow DeleteParameter DeleteParameters
        DeletePatchBaseline DeregisterPatchBaselineForPatchGroup
        DeregisterTargetFromMaintenanceWindow DeregisterTaskFromMaintenanceWindow DescribeDocument
        DescribeDocumentPermission DescribeMaintenanceWindowTargets DescribeMaintenanceWindowTasks
        DescribeMaintenanceWindows DescribeParameters DescribePatchBaselines GetDocument
        GetMaintenanceWindow GetParameter GetParameterHistory GetParameters GetParametersByPath
        GetPatchBaselineForPatchGroup LabelParameterVersion ListDocuments ListTagsForResource
        ModifyDocumentPermission PutParameter RegisterPatchBaselineForPatchGroup
        RegisterTargetWithMaintenanceWindow RegisterTaskWithMaintenanceWindow
        RemoveTagsFromResource UnlabelParameterVersion UpdateDocument UpdateDocumentDefaultVersion
    """,
)
