//! `hallpass-broker check`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::compose;
use crate::config::check::check;

/// What to check.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Server file; its bundle is checked unless another is named.
    #[arg(long, value_name = "FILE", env = "HALLPASS_CONFIG")]
    config: Option<PathBuf>,
    /// Folder of the bundle.
    #[arg(long, value_name = "FOLDER", required_unless_present = "config")]
    bundle: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let config = arguments.config.as_deref();
    let of_config = || {
        let server = crate::config::server::ServerConfig::load(config?).ok()?;
        Some(server.bundle.path)
    };
    let Some(folder) = arguments.bundle.clone().or_else(of_config) else {
        // Without a usable server file there is no bundle to find; say what is wrong with the file.
        let findings = config.map(crate::config::server::ServerConfig::load).and_then(Result::err).unwrap_or_default();
        findings.iter().for_each(|finding| eprintln!("{finding}"));
        return ExitCode::FAILURE;
    };
    let mut report = check(config, &folder);
    if let Some(bundle) = &report.bundle {
        match compose::check_parameters(bundle) {
            Ok(findings) => report.findings.extend(
                findings
                    .into_iter()
                    .map(|finding| crate::config::Finding { file: folder.join(&finding.file), ..finding }),
            ),
            Err(error) => {
                eprintln!("hallpass-broker: {error:#}");
                return ExitCode::FAILURE;
            }
        }
    }
    match &report.bundle {
        Some(bundle) if report.is_clean() => {
            println!("{}: revision {}", folder.display(), bundle.revision);
            println!(
                "{} roles, {} owners, {} issuers, {} backends; {} policy tests hold",
                bundle.catalog.roles.len(),
                bundle.catalog.owners.len(),
                bundle.issuers.len(),
                bundle.backends.len(),
                bundle.tests.len(),
            );
            for role in bundle.catalog.roles.values() {
                let class = bundle.role_facts(&role.name).map_or("unknown", |facts| facts.class.as_str());
                println!(
                    "  {}  owner {}  ttl {} (max {})  {class}",
                    role.name, role.owner, role.ttl.default, role.ttl.max
                );
            }
            ExitCode::SUCCESS
        }
        _ => {
            eprint!("{report}");
            ExitCode::FAILURE
        }
    }
}
