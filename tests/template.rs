//! `template.yaml` and `tenant.yaml` agree with the code, with each other, with the documents and with `events/`.
//!
//! Whether AWS takes them is for the linters to say (`.ci/template`). YAML tags are not seen here: `!Ref X` is `X`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod documents;

use std::collections::BTreeSet;
use std::fs;

use collector::source::Kind;
use serde_json::{Value, json};

/// Minutes between the runs of a source, here and in `mimecast-devo collect`.
const PERIODS: [(&str, u64); 15] = [
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
    ("dlp", 15),
    ("release", 15),
    ("rejections", 15),
    ("siemci", 15),
];

const METRICS: &str =
    "Failures BackfillFailures Events Rejected RateLimitWaits DevoRefusals LagSeconds LateSeconds GapSeconds";

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

fn names() -> impl Iterator<Item = &'static str> + Clone {
    functions::ALL.into_iter().map(|source| source.name)
}

/// A loop: what it goes over, and what it makes, where `Any` stands for the one that it is at.
fn unrolled(template: &Value, name: &str) -> (Value, Value) {
    let [variable, over, body] = &template["Resources"][format!("Fn::ForEach::{name}")].as_array().unwrap()[..] else {
        panic!("{name} is no loop");
    };
    (over.clone(), of_any(body, variable.as_str().unwrap()))
}

/// A value with `Any` where a loop's variable is.
fn of_any(value: &Value, variable: &str) -> Value {
    let placeholder = format!("${{{variable}}}");
    match value {
        Value::String(text) if text == variable => json!("Any"),
        Value::String(text) => json!(text.replace(&placeholder, "Any")),
        Value::Array(values) => values.iter().map(|value| of_any(value, variable)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| (key.replace(&placeholder, "Any"), of_any(value, variable))).collect()
        }
        _ => value.clone(),
    }
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn each_source_has_one_of_each_and_there_is_nothing_else() {
    assert_eq!(names().collect::<Vec<_>>(), PERIODS.map(|(name, _)| name));
    for (path, loops, others) in [
        ("template.yaml", "Functions Backfills Schedules TenantAlarms", OF_THE_STACK),
        ("tenant.yaml", "Schedules TenantAlarms", ""),
    ] {
        let template = yaml(path);
        let loops = words(loops).into_iter().map(|name| format!("Fn::ForEach::{name}"));
        let expected: BTreeSet<String> = loops.chain(words(others)).chain(words("LagAlarm")).collect();
        assert_eq!(keys(&template["Resources"]), expected, "{path}");
        assert_eq!(keys(&template["Mappings"]["Source"]), names().map(str::to_owned).collect(), "{path}");
        assert_eq!(unrolled(&template, "Schedules").0, "Sources", "{path}");
        let on: Vec<&str> = template["Parameters"]["Sources"]["Default"].as_str().unwrap().split(',').collect();
        assert_eq!(on, functions::by_default().iter().map(|source| source.name).collect::<Vec<_>>(), "{path}");
    }
    assert_eq!(texts(&unrolled(&yaml("template.yaml"), "Functions").0), names().collect::<Vec<_>>());
}

#[test]
fn the_parts_of_a_source_belong_together() {
    let template = yaml("template.yaml");
    let (_, made) = unrolled(&template, "Functions");
    assert_eq!(keys(&made), words("AnyFunction AnyRole AnyLogs AnyScheduled"));
    let function = &made["AnyFunction"];
    assert_eq!(function["Metadata"], json!({"BuildMethod": "rust-cargolambda", "BuildProperties": {"Binary": "Any"}}));
    // With a path that is the same for all, all functions would get the program of the first.
    assert_eq!(function["Properties"]["CodeUri"], "Any/..");
    assert_eq!(function["Properties"]["FunctionName"], "${AWS::StackName}-Any");
    assert_eq!(function["Properties"]["Role"], json!({"Fn::GetAtt": ["AnyRole", "Arn"]}));
    assert_eq!(function["Properties"]["LoggingConfig"]["LogGroup"], json!({"Ref": "AnyLogs"}));
    for (property, column) in [("MemorySize", "Memory"), ("Timeout", "Timeout")] {
        assert_eq!(function["Properties"][property], json!(["Source", "Any", column]));
    }
    assert_eq!(
        function["Properties"]["EventInvokeConfig"]["MaximumEventAgeInSeconds"],
        json!(["Source", "Any", "Period"])
    );
    assert_eq!(made["AnyLogs"]["Properties"]["LogGroupName"], "/aws/lambda/${AWS::StackName}-Any");
    let [items, logs] =
        &made["AnyRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"].as_array().unwrap()[..]
    else {
        panic!("a role has two statements of its own");
    };
    assert_eq!(items["Action"], json!(["dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem"]));
    assert_eq!(items["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"], json!(["*#Any"]));
    assert_eq!(logs["Resource"], json!({"Fn::GetAtt": ["AnyLogs", "Arn"]}));
    for (of, policy, role) in
        [("Functions", "AnyScheduled", "SchedulerRole"), ("Backfills", "AnyBackfilled", "BackfillRole")]
    {
        let policy = &unrolled(&template, of).1[policy]["Properties"];
        assert_eq!(policy["Roles"], json!([role]));
        let statement = &policy["PolicyDocument"]["Statement"];
        let function = json!({"Fn::GetAtt": ["AnyFunction", "Arn"]});
        assert_eq!(*statement, json!([{"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": function}]));
    }
    let (_, made) = unrolled(&template, "Schedules");
    assert_eq!(keys(&made), words("AnyFunctionSchedule AnySilentAlarm"));
    let schedule = &made["AnyFunctionSchedule"]["Properties"];
    assert_eq!(schedule["ScheduleExpression"], json!(["HasSchedule", "Schedule", ["Source", "Any", "Schedule"]]));
    assert_eq!(schedule["Target"]["Arn"], json!({"Fn::GetAtt": ["AnyFunction", "Arn"]}));
    assert_eq!(made["AnySilentAlarm"]["Properties"]["Period"], json!(["Source", "Any", "Period"]));
}

#[test]
fn times_fit_the_periods() {
    let [stack, tenant] = ["template.yaml", "tenant.yaml"].map(yaml);
    let mut starts = [0; 60];
    for (name, minutes) in PERIODS {
        let row = &stack["Mappings"]["Source"][name];
        let period = minutes * 60;
        assert_eq!(row["Period"], period, "{name}");
        // A lease ends 30 s after the deadline of its run; no function runs longer than 900 s.
        assert_eq!(row["Timeout"], (period - 30).min(900), "{name}");
        let schedule = row["Schedule"].as_str().unwrap();
        let first: u64 = schedule.trim_start_matches("cron(").split(['/', ' ']).next().unwrap().parse().unwrap();
        let every = if minutes == 60 { String::new() } else { format!("/{minutes}") };
        assert_eq!(schedule, format!("cron({first}{every} * * * ? *)"), "{name}");
        (first..60).step_by(minutes as usize).for_each(|minute| starts[minute as usize] += 1);
        for column in ["Schedule", "Period"] {
            assert_eq!(tenant["Mappings"]["Source"][name][column], row[column], "{name}");
        }
    }
    // A new account may run ten functions at once.
    assert!(starts.iter().all(|starts| *starts <= 3), "{starts:?}");
}

#[test]
fn a_tenant_is_collected_and_watched_as_the_default_one_is() {
    let [stack, tenant] = ["template.yaml", "tenant.yaml"].map(yaml);
    let here = |alarm: &Value| alarm.to_string().replace("Devo/${AWS::StackName}", "Devo/${StackName}");
    assert_eq!(tenant["Mappings"]["Alarms"], stack["Mappings"]["Alarms"]);
    for alarm in ["LagAlarm", "Fn::ForEach::TenantAlarms"] {
        assert_eq!(tenant["Resources"][alarm].to_string(), here(&stack["Resources"][alarm]));
    }
    let [(_, theirs), (_, expected)] = [&tenant, &stack].map(|template| unrolled(template, "Schedules"));
    assert_eq!(keys(&theirs), keys(&expected));
    assert_eq!(theirs["AnySilentAlarm"].to_string(), here(&expected["AnySilentAlarm"]));
    let theirs = &theirs["AnyFunctionSchedule"]["Properties"];
    let mut expected = expected["AnyFunctionSchedule"]["Properties"].clone();
    expected.as_object_mut().unwrap().remove("Name");
    expected["GroupName"] = json!("StackName");
    let target = &mut expected["Target"];
    target["Arn"] = json!("arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:${StackName}-Any");
    target["Input"] = json!(r#"{"tenant":"${Tenant}"}"#);
    for (value, output) in [("/RoleArn", "SchedulerRoleArn"), ("/DeadLetterConfig/Arn", "FailedRunsArn")] {
        assert_eq!(stack["Outputs"][output]["Export"]["Name"], format!("${{AWS::StackName}}-{output}"));
        *target.pointer_mut(value).unwrap() = json!({"Fn::ImportValue": format!("${{StackName}}-{output}")});
    }
    assert_eq!(*theirs, expected);
    for name in ["Sources", "Schedule", "AlarmTopicArn", "LagAlarmSeconds", "SilentPeriods"] {
        assert_eq!(tenant["Parameters"][name], stack["Parameters"][name]);
    }
}

#[test]
fn a_first_deployment_that_fails_can_be_tried_again() {
    let template = yaml("template.yaml");
    // What stays when a first deployment is rolled back has no name that could be in the way of the next one.
    for (key, resource) in template["Resources"].as_object().unwrap() {
        let named = resource["Properties"].as_object().into_iter().flatten().any(|(name, _)| name.ends_with("Name"));
        let stays = resource["DeletionPolicy"] == "Retain";
        assert!(!(named && stays), "{key}");
    }
    for secret in ["MimecastSecret", "DevoSecret"] {
        assert_eq!(template["Resources"][secret]["DeletionPolicy"], "RetainExceptOnCreate");
    }
    assert_eq!(template["Parameters"]["DevoUrl"]["Default"], Value::Null);
    assert!(read("template.yaml").len() < 51_200, "the console and the CLI take no more without a bucket");
}

#[test]
fn alarms_and_dashboard_know_the_metrics() {
    let template = yaml("template.yaml");
    let ours = |namespace: &Value| *namespace == "MimecastDevo/${AWS::StackName}";
    let (_, made) = unrolled(&template, "Schedules");
    let silent = &made["AnySilentAlarm"]["Properties"];
    assert_eq!((&silent["MetricName"], &silent["Statistic"]), (&json!("LagSeconds"), &json!("SampleCount")));
    for alarm in template["Mappings"]["Alarms"].as_object().unwrap().values() {
        assert!(words(METRICS).contains(alarm["Metric"].as_str().unwrap()), "{alarm}");
    }
    let looped = unrolled(&template, "TenantAlarms").0;
    assert_eq!(
        texts(&looped).into_iter().map(str::to_owned).collect::<BTreeSet<_>>(),
        keys(&template["Mappings"]["Alarms"])
    );
    let [body, variables] = &template["Resources"]["Dashboard"]["Properties"]["DashboardBody"].as_array().unwrap()[..]
    else {
        panic!("the dashboard has variables");
    };
    // The names of the sources become a row each.
    assert_eq!(variables["Names"], json!(["\"], [\"...\", \"", "Sources"]));
    let body = body.as_str().unwrap();
    for alarm in texts(&looped).into_iter().chain(["Lag", "FailedRuns"]) {
        assert!(body.contains(&format!("${{{alarm}Alarm.Arn}}")), "{alarm}");
    }
    let body: Value = serde_json::from_str(&body.replace("${Names}", r#"audit"], ["...", "siem"#)).unwrap();
    let mut shown = BTreeSet::new();
    for widget in body["widgets"].as_array().unwrap() {
        let Value::Array(metrics) = &widget["properties"]["metrics"] else { continue };
        shown.extend(metrics.iter().filter(|m| ours(&m[0])).map(|m| m[1].as_str().unwrap().to_owned()));
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
    // The sources that it takes are those it may invoke: those asked for by time, and the two of SIEM.
    let taken = definition.split("source must be one of ").nth(1).unwrap().split(':').next().unwrap();
    assert_eq!(texts(&unrolled(&template, "Backfills").0), taken.split(", ").collect::<Vec<_>>());
    let by_time = functions::ALL.into_iter().filter(|source| match &source.kind {
        Kind::Window(_) => true,
        Kind::Stream(stream) => stream.dated,
        Kind::Snapshot(_) => false,
    });
    assert_eq!(taken, by_time.map(|source| source.name).collect::<Vec<_>>().join(", "));
}

#[test]
fn each_function_has_a_sample_event() {
    for name in functions::ALL.map(|source| source.name) {
        let event: Value = serde_json::from_str(&read(&format!("events/{name}.json"))).unwrap();
        assert!(event.is_object(), "{name}");
    }
}
