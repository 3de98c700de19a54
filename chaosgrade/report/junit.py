"""The result as JUnit XML for CI systems: a suite per experiment, a case per objective."""

import xml.etree.ElementTree as ET

from chaosgrade.report.wording import environment_label, grade_lines
from chaosgrade.score import ExperimentScore, ObjectiveScore, Score


def render(score: Score) -> str:
    """The document. Failed objectives are failures; inconclusive ones are errors, never passes."""
    root = ET.Element("testsuites", name="chaosgrade")
    for experiment in score.experiments:
        root.append(_suite(experiment))
    properties = ET.SubElement(
        ET.SubElement(root, "testsuite", name="chaosgrade grade", tests="0"), "properties"
    )
    for number, line in enumerate(grade_lines(score)):
        ET.SubElement(properties, "property", name=f"grade.{number}", value=line)
    for environment in score.environments:
        ET.SubElement(
            properties, "property", name="environment", value=environment_label(environment)
        )
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in root)))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(experiment: ExperimentScore) -> ET.Element:
    verdicts = [objective.verdict for objective in experiment.objectives]
    suite = ET.Element(
        "testsuite",
        name=experiment.experiment,
        tests=str(max(1, len(verdicts))),
        failures=str(verdicts.count("failed")),
        errors=str(verdicts.count("inconclusive") if verdicts else 1),
    )
    for objective in experiment.objectives:
        suite.append(_case(experiment, objective))
    if not experiment.objectives:
        case = ET.SubElement(suite, "testcase", classname=experiment.experiment, name="run")
        reason = "; ".join(experiment.invalid) or "nothing was observed"
        ET.SubElement(case, "error", message=reason)
    return suite


def _case(experiment: ExperimentScore, objective: ObjectiveScore) -> ET.Element:
    case = ET.Element(
        "testcase", classname=experiment.experiment, name=f"{objective.metric} {objective.target}"
    )
    counts = (
        f"{objective.passed} passed, {objective.failed} failed, "
        f"{objective.inconclusive} inconclusive"
    )
    if objective.verdict == "failed":
        message = f"{objective.metric} was {objective.measured}, must be {objective.target}"
        failure = ET.SubElement(case, "failure", message=message)
        failure.text = f"{counts}. {objective.reason}\n{objective.because}"
    elif objective.verdict == "inconclusive":
        ET.SubElement(case, "error", message=f"inconclusive: {objective.reason}").text = counts
    return case
