//! The committed corpus of every fuzz target, through the laws that the targets state.

use std::path::Path;

#[path = "laws/mod.rs"]
mod laws;

#[test]
fn every_law_holds_for_its_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus");
    for (name, law) in laws::LAWS {
        let files: Vec<_> = corpus.join(name).read_dir().unwrap().map(|file| file.unwrap().path()).collect();
        assert!(!files.is_empty(), "{name}");
        for file in files {
            let data = std::fs::read(&file).unwrap();
            let held = std::panic::catch_unwind(|| law(&data));
            assert!(held.is_ok(), "{} breaks its law", file.display());
        }
    }
}
