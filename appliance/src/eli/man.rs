//! `eli man`: the manual page, from the commands themselves.

use clap::{Arg, Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

use super::Arguments;
use super::ending::Ending;

/// The page eli(1) in roff.
pub fn page() -> anyhow::Result<Vec<u8>> {
    let mut command = Arguments::command();
    command.build();
    let man = Man::new(command.clone()).title("ELI").manual("Elisandra");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    commands(&mut roff, &command);
    endings(&mut roff);
    places(&mut roff);
    roff.to_writer(&mut page)?;
    Ok(page)
}

fn commands(roff: &mut Roff, command: &Command) {
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()) {
        if sub.get_subcommands().any(|below| below.get_name() != "help")
            && !sub.is_args_conflicts_with_subcommands_set()
        {
            commands(roff, sub);
            continue;
        }
        let usage = sub.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").lines().next().unwrap_or_default().to_owned();
        roff.control("TP", []);
        roff.text([bold(usage)]);
        roff.text([roman(sub.get_about().map(ToString::to_string).unwrap_or_default())]);
        for arg in sub.get_arguments().filter(|arg| !arg.is_global_set() && !arg.is_hide_set()) {
            if let Some(line) = argument(arg) {
                roff.control("br", []);
                roff.text(line);
            }
        }
        commands(roff, sub);
    }
}

/// `--force  Whatever is in the way`; nothing of what the usage says already.
fn argument(arg: &Arg) -> Option<Vec<Inline>> {
    let about = arg.get_help()?.to_string();
    if matches!(arg.get_id().as_str(), "help" | "version") {
        return None;
    }
    let name = match arg.get_long() {
        Some(long) => format!("--{long}"),
        None => arg.get_value_names()?.first()?.to_string(),
    };
    Some(vec![bold(name), roman(format!(" {about}"))])
}

fn endings(roff: &mut Roff) {
    roff.control("SH", ["EXIT STATUS"]);
    for ending in Ending::ALL {
        roff.control("TP", []);
        roff.text([bold(ending.code().to_string())]);
        roff.text([roman(ending.about())]);
    }
}

fn places(roff: &mut Roff) {
    let sections: [(&str, &[(&str, &str)]); 3] = [
        (
            "FILES",
            &[
                (
                    "~/.config/elisandra/eli.toml",
                    "What eli login has learned: address, fingerprint and token. For its owner alone.",
                ),
                ("~/.config/elisandra/plans/", "Plans, for eli apply."),
            ],
        ),
        (
            "ENVIRONMENT",
            &[
                ("ELI_SERVER, ELI_FINGERPRINT, ELI_TOKEN", "As the options of these names."),
                ("ELI_PASSWORD, ELI_NEW_PASSWORD", "For scripts, where a password is asked for otherwise."),
            ],
        ),
        (
            "EXAMPLES",
            &[
                (
                    "eli login https://10.77.0.1 --code K7QF-2M9D",
                    "The first login, with the code on the appliance's own screen.",
                ),
                ("eli vms --watch", "What the VMs are, shown again whenever something changes."),
                (
                    "eli query vms 'phase == \"failed\"' -o names | eli vm remove --yes -",
                    "Remove every VM that has failed.",
                ),
                ("eli vm remove web --plan", "What that would do."),
                (". <(eli completion bash)", "Completion in this shell, with names from the appliance."),
            ],
        ),
    ];
    for (head, entries) in sections {
        roff.control("SH", [head]);
        for (what, about) in entries {
            roff.control("TP", []);
            roff.text([bold(*what)]);
            roff.text([roman(*about)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_every_exit_code_is_on_the_page() {
        let page = String::from_utf8(page().unwrap()).unwrap().replace("\\-", "-");
        let mut command = Arguments::command();
        command.build();
        let mut leaves = 0;
        let mut open: Vec<&Command> = vec![&command];
        while let Some(command) = open.pop() {
            let below: Vec<&Command> =
                command.get_subcommands().filter(|sub| sub.get_name() != "help").collect();
            if below.is_empty() {
                let name = command.get_bin_name().unwrap();
                assert!(page.contains(name), "{name} is not on the page");
                leaves += 1;
            }
            open.extend(below);
        }
        assert!(leaves > 60, "{leaves}");
        for ending in Ending::ALL {
            assert!(page.contains(&format!("\\fB{}\\fR", ending.code())), "{}", ending.code());
        }
    }
}
