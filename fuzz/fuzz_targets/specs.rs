//! Any text is a spec or an error; a spec that is accepted can be used, and survives being written.
#![no_main]

use corpus::{HubPath, SourceFiles};
use data_mixer::{MixPlan, MixSpec, Pairing, SourceSize};
use libfuzzer_sys::fuzz_target;
use schedule::{LrSpec, Step, TimelineSpec, Tokens};

fuzz_target!(|text: &str| {
    if let Ok(spec) = toml::from_str::<LrSpec>(text) {
        let written = toml::to_string(&spec).expect("a spec is TOML");
        // Not equality: NaN is a rate that can be written.
        assert!(toml::from_str::<LrSpec>(&written).is_ok());
        if let Ok(lr) = spec.in_steps(Tokens(1000)).and_then(LrSpec::build) {
            for step in [0, 1, 1000, u64::MAX] {
                assert!(lr.at(Step(step)).is_finite());
            }
        }
    }
    if let Ok(spec) = toml::from_str::<TimelineSpec>(text) {
        let written = toml::to_string(&spec).expect("a spec is TOML");
        assert_eq!(toml::from_str::<TimelineSpec>(&written).as_ref(), Ok(&spec));
        if let Ok(timeline) = spec.build(Tokens(1000)) {
            let sources = timeline.sources().into_iter().map(|name| SourceSize::new(name, 1 << 40)).collect();
            let spec =
                MixSpec { seed: 1, batch: 7, time: 8, timeline, sources, pairing: Pairing::Displace, max_epochs: 2.0 };
            if let Ok(plan) = MixPlan::build(spec) {
                for slot in [0, plan.slots() / 2, plan.slots() - 1] {
                    let _ = plan.draw(slot);
                }
                let _ = plan.preflight().to_string();
            }
        }
    }
    if let Ok(files) = toml::from_str::<SourceFiles>(text) {
        let written = toml::to_string(&files).expect("a spec is TOML");
        assert_eq!(toml::from_str::<SourceFiles>(&written).as_ref(), Ok(&files));
        if let Some(template) = &files.template {
            let _ = template.apply(&serde_json::json!({"text": "x", "list": ["a", {"b": 1}], "n": 1}));
        }
    }
    let _ = HubPath::parse(text);
});
