//! `hallpass configuration`: the bundle in force, its history, and putting another one into force.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use hallpass_sdk::Client;
use hallpass_sdk::wire::{Page, Publication, PutConfiguration, Revision, RevisionDetail};

use crate::args::{Configuration, ConfigurationAction, Global};
use crate::connect;
use crate::exit::UsageError;
use crate::output::{Output, Tone, finding, printable};

/// Beside the files of a bundle that `get` wrote: the revision that they are. Hidden files are no part of a bundle.
const REVISION: &str = ".hallpass-revision";

pub(crate) async fn run(global: &Global, wanted: Configuration, output: &Output) -> anyhow::Result<()> {
    let client = connect::client(global)?;
    match wanted.action {
        ConfigurationAction::Get { files } => get(&client, files.as_deref(), output).await,
        ConfigurationAction::Put { folder, replaces, dry_run } => {
            put(&client, &folder, replaces, dry_run, output).await
        }
        ConfigurationAction::Diff { from, to } => {
            let detail = client.configuration_revision(&to, Some(&from)).await?;
            output.show(&detail, difference)
        }
        ConfigurationAction::Revisions { cursor } => {
            let page = client.configuration_revisions(cursor.as_deref()).await?;
            output.show(&page, |page| history(page, output))
        }
        ConfigurationAction::Rollback { revision, replaces, dry_run } => {
            let published = client.roll_configuration_back(&revision, replaces.as_deref(), dry_run).await?;
            output.show(&published, |published| told(published, output))
        }
    }
}

async fn get(client: &Client, into: Option<&Path>, output: &Output) -> anyhow::Result<()> {
    let configuration = client.configuration().await?;
    if let Some(folder) = into {
        for (path, text) in &configuration.files {
            write_new(folder, path, text)?;
        }
        write_new(folder, REVISION, &configuration.publication.revision)?;
    }
    output.show(&configuration, |configuration| {
        let mut text = format!("revision {}\n", printable(&configuration.publication.revision));
        for path in configuration.files.keys() {
            let _ = writeln!(text, "{}", printable(path));
        }
        text
    })
}

/// Writes a file that is not there yet, below `folder` and nowhere else, whatever the broker called it.
fn write_new(folder: &Path, path: &str, text: &str) -> anyhow::Result<()> {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || !plain {
        anyhow::bail!("the broker gave a file the name {path:?}, which would lie elsewhere");
    }
    let file = folder.join(path);
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent).with_context(|| format!("{} cannot be made", parent.display()))?;
    }
    let mut created = fs::File::create_new(&file).with_context(|| format!("{} cannot be made", file.display()))?;
    created.write_all(text.as_bytes()).with_context(|| format!("{} cannot be written", file.display()))
}

async fn put(
    client: &Client,
    folder: &Path,
    replaces: Option<String>,
    dry_run: bool,
    output: &Output,
) -> anyhow::Result<()> {
    let noted = folder.join(REVISION);
    let replaces = replaces.or_else(|| fs::read_to_string(&noted).ok().map(|text| text.trim().to_owned()));
    if replaces.is_none() && !dry_run {
        let words =
            "which revision does it replace? Name it with --replaces, or begin with `configuration get --files`";
        return Err(UsageError(words.to_owned()).into());
    }
    let files = read(folder)?;
    let published = client.put_configuration(&PutConfiguration { files }, replaces.as_deref(), dry_run).await?;
    if !dry_run && noted.exists() {
        fs::write(&noted, &published.revision).with_context(|| format!("{} cannot be written", noted.display()))?;
    }
    output.show(&published, |published| told(published, output))
}

/// Most files that are read: as many as the broker takes.
const MAX_FILES: usize = 10_000;
/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Deepest folder, so that links in circles end.
const MAX_DEPTH: usize = 10;

/// The files of the bundle in `folder`, as the broker would read them there: without what is hidden, without `*.md`, and
/// at the top only TOML, Cedar and the bundle's folders.
fn read(folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![(folder.to_owned(), String::new(), 0_usize)];
    while let Some((folder, within, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))? {
            let path = entry.with_context(|| format!("{} cannot be read", folder.display()))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                anyhow::bail!("{} has a name that is not UTF-8", path.display());
            };
            let is_folder = path.is_dir();
            let ours =
                depth > 0 || name.ends_with(".toml") || name.ends_with(".cedar") || (is_folder && name != "keys");
            if name.starts_with('.') || name.ends_with(".md") || !ours {
                continue;
            }
            let named = if within.is_empty() { name.to_owned() } else { format!("{within}/{name}") };
            if is_folder {
                if depth >= MAX_DEPTH {
                    anyhow::bail!("{} lies too deep for a bundle", path.display());
                }
                folders.push((path, named, depth.saturating_add(1)));
                continue;
            }
            if files.len() >= MAX_FILES {
                anyhow::bail!("a bundle has at most {MAX_FILES} files");
            }
            files.insert(named, read_one(&path)?);
        }
    }
    Ok(files)
}

fn read_one(path: &PathBuf) -> anyhow::Result<String> {
    let size = fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?.len();
    if size > MAX_FILE_BYTES {
        anyhow::bail!("{} is larger than {MAX_FILE_BYTES} bytes", path.display());
    }
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

fn told(published: &Publication, output: &Output) -> String {
    let (tone, word) = if published.published { (Tone::Good, "published") } else { (Tone::Faint, "not published") };
    let mut text = format!("{} {}\n", output.paint(tone, word), printable(&published.revision));
    let _ = writeln!(text, "in the place of {}", printable(&published.replaces));
    let changes = &published.changes;
    for (sign, paths) in [("+", &changes.added), ("~", &changes.changed), ("-", &changes.removed)] {
        for path in paths {
            let _ = writeln!(text, "  {sign} {}", printable(path));
        }
    }
    let touched = &published.touched;
    let _ = writeln!(
        text,
        "touches {} roles, {} policies and {} live grants",
        touched.roles.len(),
        touched.policies.len(),
        touched.live_grants
    );
    for warning in &published.warnings {
        let _ = writeln!(text, "{} {}", output.paint(Tone::Waiting, "warning"), finding(warning));
    }
    for widening in &published.widening {
        let _ = writeln!(text, "{} {}", output.paint(Tone::Bad, "widens your rights"), finding(widening));
    }
    text
}

fn history(page: &Page<Revision>, output: &Output) -> String {
    let mut text = String::new();
    for revision in &page.items {
        let author = revision.author.as_deref().map_or_else(|| "-".to_owned(), printable);
        let occasion = revision.occasion.as_deref().map_or_else(|| "-".to_owned(), printable);
        let id = printable(&revision.revision);
        let _ = writeln!(text, "{id}  {}  {occasion:9}  {author}", revision.published_at);
    }
    if let Some(cursor) = &page.next_cursor {
        let more = format!("more with --cursor {}", printable(cursor));
        let _ = writeln!(text, "{}", output.paint(Tone::Faint, &more));
    }
    text
}

fn difference(detail: &RevisionDetail) -> String {
    let files = detail.difference.iter().flat_map(|difference| &difference.files);
    let mut text = String::new();
    for file in files {
        match &file.diff {
            // Line by line: what could steer a terminal goes, the ends of lines stay.
            Some(diff) => diff.lines().for_each(|line| {
                let _ = writeln!(text, "{}", printable(line));
            }),
            None => {
                let _ = writeln!(text, "{} {}", printable(&file.change), printable(&file.path));
            }
        }
    }
    if text.is_empty() { "they are the same\n".to_owned() } else { text }
}
