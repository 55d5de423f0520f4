//! What a newcomer reads is short, and leads to what is there.

use std::fs;
use std::path::Path;

use crate::{keys, read, unrolled, yaml};

/// The documents, as paths from the root.
fn documents() -> Vec<String> {
    let of = |folder: &str| {
        let entries = fs::read_dir(format!("../{folder}")).unwrap();
        let names = entries.map(|entry| format!("{folder}/{}", entry.unwrap().file_name().to_str().unwrap()));
        names.filter(|path| path.ends_with(".md")).collect::<Vec<_>>()
    };
    [of("."), of("docs"), of("deploy/terraform")].concat()
}

/// A heading as the anchor that a link to it names.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.trim_start_matches('#').trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

#[test]
fn links_lead_somewhere() {
    for document in documents() {
        let text = read(&document);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
            if path.contains("://") {
                continue;
            }
            let folder = Path::new(&document).parent().unwrap();
            let target =
                if path.is_empty() { document.clone() } else { folder.join(path).to_str().unwrap().to_owned() };
            assert!(Path::new("..").join(&target).exists(), "{document}: {link}");
            let found = || read(&target).lines().any(|line| line.starts_with('#') && anchor(line) == fragment);
            assert!(fragment.is_empty() || found(), "{document}: {link}");
        }
    }
}

#[test]
fn the_readme_is_short() {
    assert!(read("README.md").lines().count() <= 150);
}

/// That the code reads what is listed there, and nothing else, is for `mimecast-devo`'s own tests to say.
#[test]
fn every_variable_that_the_template_sets_is_listed() {
    let listed = read("docs/settings.md");
    let functions = unrolled(&yaml("template.yaml"), "Functions").1;
    let set = keys(&functions["AnyFunction"]["Properties"]["Environment"]["Variables"]);
    assert!(set.contains("SETTINGS"), "those without a parameter of their own come in this one");
    // The AWS SDK's own.
    for name in set.into_iter().filter(|name| name != "AWS_ENDPOINT_URL") {
        assert!(listed.contains(&format!("\n| `{name}` ")), "{name}");
    }
}
