//! `TILEWISE_ISA`: obeyed, and refused in words where it names nothing. Each choice is made once per process, so
//! each is looked at in a process of its own.

use std::process::Command;

use tilewise_kernels::{Cpu, Isa};

/// What a child prints before its choice.
const MARK: &str = "selected: ";

#[test]
#[ignore = "run by the tests below, with TILEWISE_ISA set"]
fn child_prints_the_selected_isa() {
    match Cpu::new() {
        Ok(cpu) => println!("{MARK}{}", cpu.isa()),
        Err(error) => println!("{MARK}{error}"),
    }
}

fn selected(variable: Option<&str>) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "child_prints_the_selected_isa", "--ignored", "--nocapture"]);
    match variable {
        Some(value) => child.env("TILEWISE_ISA", value),
        None => child.env_remove("TILEWISE_ISA"),
    };
    let output = child.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, after) = text.split_once(MARK).unwrap_or_else(|| panic!("no choice in {text:?}"));
    after.lines().next().unwrap().to_owned()
}

#[test]
fn a_name_forces_an_instruction_set() {
    for isa in Isa::ALL {
        let expected = match isa.require() {
            Ok(isa) => isa.to_string(),
            Err(missing) => missing.to_string(),
        };
        assert_eq!(selected(Some(isa.name())), expected);
    }
}

#[test]
fn without_a_name_the_fastest_is_taken() {
    assert_eq!(selected(None), Isa::available().last().unwrap().name());
}

#[test]
fn other_names_are_refused() {
    for name in ["", "AVX2", "sse9", "avx2 "] {
        let expected = "TILEWISE_ISA: expected portable, avx2 or avx512, got another name";
        assert_eq!(selected(Some(name)), expected, "{name:?}");
    }
}

#[test]
fn names_parse_back() {
    for isa in Isa::ALL {
        assert_eq!(isa.name().parse(), Ok(isa));
    }
}
