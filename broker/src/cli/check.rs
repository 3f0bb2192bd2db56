//! `hallpass-broker check`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::compose;
use crate::config::check::{check, in_folder};
use crate::config::matrix::Matrix;
use crate::config::server::ServerConfig;

/// What to check.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Server file; its bundle is checked unless another is named.
    #[arg(long, value_name = "FILE", env = "HALLPASS_CONFIG")]
    config: Option<PathBuf>,
    /// Folder of the bundle.
    #[arg(long, value_name = "FOLDER", required_unless_present = "config")]
    bundle: Option<PathBuf>,
    /// Print who may do what by which policy, for everybody whom the bundle's tests know.
    #[arg(long)]
    matrix: bool,
    /// Refuse what is otherwise told only: policies that are easy to get wrong.
    #[arg(long, value_name = "WHAT")]
    deny: Vec<Denied>,
}

/// What can be refused that is otherwise told only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Denied {
    /// Policies that mean more than whoever wrote them may have thought.
    Findings,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let config = arguments.config.as_deref();
    let server = config.map(ServerConfig::load);
    let of_config = server.as_ref().and_then(|server| server.as_ref().ok()?.bundle.folder().map(Path::to_owned));
    let Some(folder) = arguments.bundle.clone().or(of_config) else {
        return match server {
            Some(Ok(_)) => {
                println!("the server file is fine; its bundle comes over the API: name a folder with --bundle");
                ExitCode::SUCCESS
            }
            // Without a usable server file there is no bundle to find; say what is wrong with the file.
            Some(Err(findings)) => {
                findings.iter().for_each(|finding| eprintln!("{finding}"));
                ExitCode::FAILURE
            }
            None => ExitCode::FAILURE,
        };
    };
    let mut report = check(config, &folder);
    if let Some(bundle) = &report.bundle {
        match compose::check_parameters(bundle) {
            Ok(findings) => report.findings.extend(findings.into_iter().map(|finding| in_folder(finding, &folder))),
            Err(error) => {
                eprintln!("hallpass-broker: {error:#}");
                return ExitCode::FAILURE;
            }
        }
    }
    report.advice.iter().for_each(|finding| eprintln!("{finding}"));
    if arguments.deny.contains(&Denied::Findings) && report.is_clean() && !report.advice.is_empty() {
        eprintln!("refused for what was told: mend it, or write @accepts(\"…\") on a policy that means it");
        return ExitCode::FAILURE;
    }
    match &report.bundle {
        Some(bundle) if report.is_clean() && arguments.matrix => {
            print!("{}", Matrix::of(bundle));
            ExitCode::SUCCESS
        }
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
