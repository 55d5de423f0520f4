//! `template.yaml` and `tenant.yaml` agree with the code, with each other, with the README and with `events/`.
//!
//! Whether AWS takes them is for the linters to say (`.ci/template`). YAML tags are not seen here: `!Ref X` is `X`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;

use collector::source::Kind;
use serde_json::{Value, json};

/// Minutes between the runs of a source, here and in `mimecast-devo collect`.
const PERIODS: [(&str, u64); 11] = [
    ("audit", 5),
    ("attachments", 5),
    ("impersonation", 5),
    ("url", 5),
    ("search", 15),
    ("view", 15),
    ("threatfeed", 60),
    ("messageholdlist", 15),
    ("messageholdsummary", 15),
    ("dashboard", 60),
    ("siem", 5),
];

const METRICS: &str = "Success Failures BackfillFailures Events Bytes Duplicates Rejected Requests RateLimitWaits Batches DevoRefusals LagSeconds \
                       LateSeconds GapSeconds RunSeconds";

/// What a source has, behind its name.
const OF_A_SOURCE: &str = "Function Role Logs FunctionSchedule SilentAlarm";
const OF_A_TENANT_S_SOURCE: &str = "FunctionSchedule SilentAlarm";
const OF_A_TENANT: &str = "LagAlarm FailureAlarm GapAlarm DeadLetterAlarm RateLimitAlarm DevoRefusalAlarm";
const OF_THE_STACK: &str = "CheckpointTable FailedRuns MimecastSecret DevoSecret FunctionPolicy ScheduleGroup \
                            SchedulerRole Backfill BackfillRole BackfillLogs FailedRunsAlarm Dashboard";

fn read(path: &str) -> String {
    fs::read_to_string(format!("../{path}")).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap()
}

fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn keys(object: &Value) -> BTreeSet<String> {
    object.as_object().unwrap().keys().cloned().collect()
}

/// The sources that have blocks: those that are collected by default.
fn names() -> impl Iterator<Item = &'static str> + Clone {
    functions::by_default().iter().map(|source| source.name)
}

/// The first letter large, as the logical ids have it.
fn large(name: &str) -> String {
    format!("{}{}", name[..1].to_uppercase(), &name[1..])
}

fn rate(minutes: u64) -> String {
    if minutes == 60 { "rate(1 hour)".to_owned() } else { format!("rate({minutes} minutes)") }
}

/// A source's part of a template, with `kinds` of resources, as any source's would read, without what depends on its period.
fn block(template: &Value, name: &str, kinds: &str) -> Value {
    let mut block = json!({"output": template["Outputs"][format!("{}FunctionArn", large(name))]});
    for kind in kinds.split_whitespace() {
        let mut resource = template["Resources"][format!("{}{kind}", large(name))].clone();
        for own in ["Description", "Timeout", "EventInvokeConfig", "MemorySize", "Period"] {
            resource["Properties"].as_object_mut().unwrap_or_else(|| panic!("{name}: no {kind}")).remove(own);
        }
        block[kind] = resource;
    }
    let text = block.to_string().replace(&large(name), "Any").replace(name, "any");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn each_source_has_one_of_each_and_there_is_nothing_else() {
    assert_eq!(names().collect::<Vec<_>>(), PERIODS.map(|(name, _)| name));
    for (path, kinds, others) in [
        ("template.yaml", OF_A_SOURCE, format!("{OF_THE_STACK} {OF_A_TENANT}")),
        ("tenant.yaml", OF_A_TENANT_S_SOURCE, OF_A_TENANT.to_owned()),
    ] {
        let template = yaml(path);
        let of = |name: &str| words(kinds).into_iter().map(|kind| large(name) + &kind).collect::<Vec<_>>();
        let expected: BTreeSet<String> = names().flat_map(of).chain(words(&others)).collect();
        assert_eq!(keys(&template["Resources"]), expected, "{path}");
        for name in names() {
            assert_eq!(block(&template, name, kinds), block(&template, "audit", kinds), "{path}: {name}");
        }
        let schedules = keys(&template["Parameters"]).into_iter().filter(|key| key.ends_with("Schedule"));
        let expected: BTreeSet<String> = names().map(|name| large(name) + "Schedule").collect();
        assert_eq!(schedules.collect::<BTreeSet<_>>(), expected, "{path}");
    }
}

#[test]
fn the_parts_of_a_source_belong_together() {
    let template = yaml("template.yaml");
    let block = block(&template, "audit", OF_A_SOURCE);
    let function = &block["Function"];
    assert_eq!(function["Metadata"], json!({"BuildMethod": "rust-cargolambda", "BuildProperties": {"Binary": "any"}}));
    assert_eq!(function["Properties"]["FunctionName"], "${AWS::StackName}-any");
    assert_eq!(function["Properties"]["Role"], "AnyRole.Arn");
    assert_eq!(function["Properties"]["LoggingConfig"]["LogGroup"], "AnyLogs");
    assert_eq!(block["Logs"]["Properties"]["LogGroupName"], "/aws/lambda/${AWS::StackName}-any");
    let [items, logs] =
        &block["Role"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"].as_array().unwrap()[..]
    else {
        panic!("a role has two statements of its own");
    };
    assert_eq!(items["Action"], json!(["dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem"]));
    assert_eq!(items["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"], json!(["*#any"]));
    assert_eq!(logs["Resource"], "AnyLogs.Arn");
    let schedule = &block["FunctionSchedule"];
    assert_eq!(schedule["Condition"], "AnyOn");
    assert_eq!(schedule["Properties"]["ScheduleExpression"], "AnySchedule");
    assert_eq!(schedule["Properties"]["Target"]["Arn"], "AnyFunction.Arn");
    assert_eq!(block["SilentAlarm"]["Condition"], "AnyOn");
    assert_eq!(invoked(&template, "SchedulerRole"), names().collect::<Vec<_>>());
}

/// The sources whose functions a role may invoke.
fn invoked(template: &Value, role: &str) -> Vec<&'static str> {
    let policy = &template["Resources"][role]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"][0];
    assert_eq!(policy["Action"], "lambda:InvokeFunction");
    let functions = policy["Resource"].as_array().unwrap();
    let name = |function: &Value| names().find(|name| *function == format!("{}Function.Arn", large(name))).unwrap();
    functions.iter().map(name).collect()
}

#[test]
fn times_fit_the_periods() {
    let [stack, tenant] = ["template.yaml", "tenant.yaml"].map(yaml);
    let globals = &stack["Globals"]["Function"];
    for (name, minutes) in PERIODS {
        let period = minutes * 60;
        for template in [&stack, &tenant] {
            assert_eq!(template["Parameters"][large(name) + "Schedule"]["Default"], rate(minutes), "{name}");
            let alarm = &template["Resources"][large(name) + "SilentAlarm"]["Properties"];
            assert_eq!(alarm["Period"], period, "{name}");
        }
        let own = &stack["Resources"][large(name) + "Function"]["Properties"];
        let set = |pointer: &str| own.pointer(pointer).or(globals.pointer(pointer)).unwrap().clone();
        assert_eq!(set("/EventInvokeConfig/MaximumEventAgeInSeconds"), period, "{name}");
        // A lease ends 30 s after the deadline of its run; no function runs longer than 900 s.
        assert_eq!(set("/Timeout"), (period - 30).min(900), "{name}");
    }
}

#[test]
fn a_tenant_is_collected_and_watched_as_the_default_one_is() {
    let [stack, tenant] = ["template.yaml", "tenant.yaml"].map(yaml);
    let alarms = words(OF_A_TENANT).into_iter().chain(names().map(|name| large(name) + "SilentAlarm"));
    for alarm in alarms {
        let expected = stack["Resources"][&alarm].to_string().replace("Devo/${AWS::StackName}", "Devo/${StackName}");
        assert_eq!(tenant["Resources"][&alarm].to_string(), expected);
    }
    let schedule = |template| block(template, "audit", "FunctionSchedule")["FunctionSchedule"]["Properties"].take();
    let (theirs, mut expected) = (schedule(&tenant), schedule(&stack));
    expected.as_object_mut().unwrap().remove("Name");
    expected["GroupName"] = json!("StackName");
    let target = &mut expected["Target"];
    target["Arn"] = json!("arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:${StackName}-any");
    target["Input"] = json!(r#"{"tenant":"${Tenant}"}"#);
    for (value, output) in [("/RoleArn", "SchedulerRoleArn"), ("/DeadLetterConfig/Arn", "FailedRunsArn")] {
        assert_eq!(stack["Outputs"][output]["Export"]["Name"], format!("${{AWS::StackName}}-{output}"));
        *target.pointer_mut(value).unwrap() = json!({"Fn::ImportValue": format!("${{StackName}}-{output}")});
    }
    assert_eq!(theirs, expected);
    for name in ["AlarmTopicArn", "LagAlarmSeconds", "SilentPeriods"] {
        assert_eq!(tenant["Parameters"][name], stack["Parameters"][name]);
    }
}

#[test]
fn every_variable_of_the_readme_is_set() {
    let readme = read("README.md");
    let name = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    let upper = |name: &String| name.bytes().all(|c| c.is_ascii_uppercase() || c == b'_');
    let mut documented: BTreeSet<String> = readme.lines().filter_map(name).filter(upper).collect();
    // The secret's own base_url is for that.
    assert!(documented.remove("MIMECAST_BASE_URL"));
    // Whether API 2.0 ever needs it is not known.
    assert!(documented.remove("MIMECAST_DASHBOARD_ACCOUNT"));
    documented.insert("AWS_ENDPOINT_URL".to_owned());
    assert_eq!(keys(&yaml("template.yaml")["Globals"]["Function"]["Environment"]["Variables"]), documented);
}

#[test]
fn alarms_and_dashboard_know_the_metrics() {
    let template = yaml("template.yaml");
    let ours = |namespace: &Value| *namespace == "MimecastDevo/${AWS::StackName}";
    for resource in template["Resources"].as_object().unwrap().values() {
        let Value::String(metric) = &resource["Properties"]["MetricName"] else { continue };
        let known = words(METRICS).contains(metric) == ours(&resource["Properties"]["Namespace"]);
        assert!(known, "{metric}");
    }
    let body = template["Resources"]["Dashboard"]["Properties"]["DashboardBody"].as_str().unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    let mut shown = BTreeSet::new();
    for widget in body["widgets"].as_array().unwrap() {
        let title = widget["properties"]["title"].as_str().unwrap();
        let Value::Array(metrics) = &widget["properties"]["metrics"] else { continue };
        shown.extend(metrics.iter().filter(|m| ours(&m[0])).map(|m| m[1].as_str().unwrap().to_owned()));
        // A graph that shows one source or function shows all of them.
        let last = |metric: &Value| {
            let mut texts = metric.as_array()?.iter().filter_map(Value::as_str);
            Some(texts.next_back()?.rsplit('-').next()?.to_owned())
        };
        let sources: Vec<String> = metrics.iter().filter_map(last).filter(|text| names().any(|n| n == text)).collect();
        let all: Vec<&str> = names().cycle().take(sources.len()).collect();
        assert!(sources == all && sources.len().is_multiple_of(11), "{title}: {sources:?}");
    }
    assert_eq!(shown, words(METRICS));
}

#[test]
fn the_console_shows_each_parameter_once() {
    for path in ["template.yaml", "tenant.yaml"] {
        let template = yaml(path);
        let interface = &template["Metadata"]["AWS::CloudFormation::Interface"];
        let groups = interface["ParameterGroups"].as_array().unwrap().iter();
        let grouped: Vec<Value> = groups.flat_map(|group| group["Parameters"].as_array().unwrap().clone()).collect();
        assert_eq!(json!(grouped), json!(keys_in_order(path)), "{path}");
        assert_eq!(keys(&interface["ParameterLabels"]), keys(&template["Parameters"]), "{path}");
    }
    let published = &yaml("template.yaml")["Metadata"]["AWS::ServerlessRepo::Application"];
    assert_eq!(published["SemanticVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(published["SpdxLicenseId"], "Apache-2.0");
    for file in ["LicenseUrl", "ReadmeUrl"] {
        read(published[file].as_str().unwrap());
    }
}

/// The parameters as they follow each other in the file.
fn keys_in_order(path: &str) -> Vec<String> {
    let text = read(path);
    let section = text.split("\nParameters:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let key = |line: &str| Some(line.strip_prefix("  ")?.strip_suffix(':')?.to_owned());
    section.lines().filter_map(key).filter(|key| !key.starts_with(' ')).collect()
}

#[test]
fn the_state_machine_gets_what_it_asks_for() {
    let template = yaml("template.yaml");
    let machine = &template["Resources"]["Backfill"]["Properties"];
    let definition = read(machine["DefinitionUri"].as_str().unwrap());
    let asked = definition.split("${").skip(1).map(|rest| rest.split('}').next().unwrap().to_owned());
    assert_eq!(keys(&machine["DefinitionSubstitutions"]), asked.collect::<BTreeSet<_>>());
    // The sources that it takes are those it may invoke: those asked for by time, and siem.
    let taken = definition.split("source must be one of ").nth(1).unwrap().split(':').next().unwrap();
    assert_eq!(invoked(&template, "BackfillRole"), taken.split(", ").collect::<Vec<_>>());
    let by_time = functions::by_default().iter().filter(|source| matches!(source.kind, Kind::Window(_)));
    assert_eq!(taken, by_time.map(|source| source.name).chain(["siem"]).collect::<Vec<_>>().join(", "));
}

#[test]
fn each_function_has_a_sample_event() {
    for name in functions::ALL.map(|source| source.name) {
        let event: Value = serde_json::from_str(&read(&format!("events/{name}.json"))).unwrap();
        assert!(event.is_object(), "{name}");
    }
}
