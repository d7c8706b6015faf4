//! Media as they come in: what they are is recognised, what is wrong with them is said, and nothing of them ever lies
//! outside of its folder.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use appliance::systems::iso::{Iso, IsoError};
use appliance::systems::{SystemsError, Wanted, receive};
use axum::body::Bytes;
use fleet::medium::{Family, Medium};
use rand::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

/// An image of these files, made by xorriso.
fn iso(dir: &Path, files: &[(&str, &[u8])]) -> PathBuf {
    let root = dir.join("root");
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    build(dir, &root)
}

fn build(dir: &Path, root: &Path) -> PathBuf {
    let image = dir.join("image.iso");
    let output = Command::new("xorriso")
        .args(["-as", "mkisofs", "-quiet", "-R", "-V", "TEST", "-o"])
        .arg(&image)
        .arg(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    image
}

async fn import(systems: &Path, file: &Path, wanted: Wanted) -> Result<Medium, SystemsError> {
    let bytes = fs::read(file).unwrap();
    let chunks: Vec<Result<Bytes, ()>> =
        bytes.chunks(100_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    receive(systems, wanted, futures::stream::iter(chunks)).await
}

/// Everything below a folder.
fn below(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else {
                assert!(kind.is_file(), "{:?} is no file", entry.path());
                names.push(entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    names.sort();
    names
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn treeinfo(kernel_sum: &str) -> String {
    format!(
        "[checksums]\nimages/pxeboot/vmlinuz = sha256:{kernel_sum}\n[general]\nfamily = Rocky Linux\nversion = 9.5\n\
         arch = x86_64\n[images-x86_64]\nkernel = images/pxeboot/vmlinuz\ninitrd = images/pxeboot/initrd.img\n"
    )
}

fn rocky(dir: &Path, kernel_sum: &str) -> PathBuf {
    iso(
        dir,
        &[
            (".treeinfo", treeinfo(kernel_sum).as_bytes()),
            ("images/pxeboot/vmlinuz", b"kernel"),
            ("images/pxeboot/initrd.img", b"initrd"),
            (
                "BaseOS/Packages/a/A very long name of a package that is longer than any ISO 9660 name may be, so that it continues.rpm",
                b"rpm",
            ),
        ],
    )
}

#[tokio::test]
async fn a_dvd_of_the_red_hat_family_is_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let systems = dir.path().join("systems");
    let image = rocky(dir.path(), &sha256(b"kernel"));
    let sum = sha256(&fs::read(&image).unwrap());
    let medium =
        import(&systems, &image, Wanted { name: None, sha256: Some(sum.to_uppercase()) }).await.unwrap();
    assert_eq!((medium.name.as_str(), medium.family), ("rocky-linux-9-5", Family::RedHat));
    assert_eq!(
        (medium.title.as_str(), medium.version.as_str(), medium.arch.as_str()),
        ("Rocky Linux 9.5", "9.5", "amd64")
    );
    assert_eq!(medium.kernel.as_deref(), Some("images/pxeboot/vmlinuz"));
    assert_eq!(medium.sha256, sum);
    let files = below(&systems.join("rocky-linux-9-5"));
    assert_eq!(files.len(), 4);
    assert!(files[1].ends_with("so that it continues.rpm"), "{files:?}");
    assert_eq!(fs::read(systems.join("rocky-linux-9-5/images/pxeboot/initrd.img")).unwrap(), b"initrd");
    let again = import(&systems, &image, Wanted::default()).await.unwrap_err().to_string();
    assert!(again.contains("there is a medium rocky-linux-9-5 already"), "{again}");
    assert_eq!(fs::read_dir(&systems).unwrap().count(), 1, "nothing half done is left");
}

#[tokio::test]
async fn ubuntu_server_keeps_its_image_for_its_own_initrd() {
    let dir = tempfile::tempdir().unwrap();
    let systems = dir.path().join("systems");
    let info = b"Ubuntu-Server 24.04.2 LTS \"Noble Numbat\" - Release amd64 (20250217.1)";
    let image = iso(
        dir.path(),
        &[
            (".disk/info", info),
            ("casper/vmlinuz", b"k"),
            ("casper/initrd", b"i"),
            ("casper/big", &[0; 9000]),
        ],
    );
    let medium = import(&systems, &image, Wanted { name: Some("noble".into()), sha256: None }).await.unwrap();
    assert_eq!((medium.family, medium.version.as_str()), (Family::Ubuntu, "24.04.2"));
    assert_eq!(below(&systems.join("noble")), ["casper/initrd", "casper/vmlinuz", "image.iso"]);
    assert_eq!(fs::read(systems.join("noble/image.iso")).unwrap(), fs::read(image).unwrap());
}

fn tar_gz(dir: &Path, files: &[(&str, &[u8])]) -> PathBuf {
    let path = dir.join("netboot.tar.gz");
    let gzip = flate2::write::GzEncoder::new(fs::File::create(&path).unwrap(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(gzip);
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // Written as it is: the crate would refuse what leads out.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, *content).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap().flush().unwrap();
    path
}

#[tokio::test]
async fn debians_netboot_archive_gives_two_files_whatever_else_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let systems = dir.path().join("systems");
    let archive = tar_gz(
        dir.path(),
        &[
            ("../../outside", b"x"),
            ("/etc/elisandra-test", b"x"),
            ("./version.info", b"Debian version:  13 (trixie)\nInstaller build: 20250803\n"),
            ("./debian-installer/amd64/linux", b"kernel"),
            ("./debian-installer/amd64/initrd.gz", b"initrd"),
        ],
    );
    let medium = import(&systems, &archive, Wanted::default()).await.unwrap();
    assert_eq!((medium.name.as_str(), medium.version.as_str()), ("debian-13", "13"));
    assert_eq!(below(&systems), ["debian-13/initrd.gz", "debian-13/linux"]);
    assert!(!dir.path().join("outside").exists() && !Path::new("/etc/elisandra-test").exists());

    let empty = tar_gz(dir.path(), &[("x", b"x")]);
    let refusal = import(&systems, &empty, Wanted::default()).await.unwrap_err().to_string();
    assert!(refusal.starts_with("this archive has no debian-installer/"), "{refusal}");
}

#[tokio::test]
async fn what_is_damaged_or_not_known_is_refused_with_a_sentence_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let systems = dir.path().join("systems");
    let image = rocky(dir.path(), &sha256(b"kernel"));
    let refusal = async |file: &Path, wanted: Wanted| {
        let refusal = import(&systems, file, wanted).await.unwrap_err().to_string();
        assert_eq!(fs::read_dir(&systems).unwrap().count(), 0, "{refusal}");
        refusal
    };

    let wrong = Wanted { name: None, sha256: Some("ab".repeat(32)) };
    assert!(refusal(&image, wrong).await.contains("and not abab"));
    let name = Wanted { name: Some("../x".into()), sha256: None };
    assert!(refusal(&image, name).await.contains("is not usable as a name"));

    let truncated = dir.path().join("truncated.iso");
    let whole = fs::read(&image).unwrap();
    fs::write(&truncated, &whole[..whole.len() - 200_000]).unwrap();
    assert!(refusal(&truncated, Wanted::default()).await.contains("it is cut short"));

    let altered = dir.path().join("altered");
    fs::create_dir(&altered).unwrap();
    assert!(
        refusal(&rocky(&altered, &"00".repeat(32)), Wanted::default())
            .await
            .contains("the medium is damaged")
    );

    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    assert!(
        refusal(&iso(&other, &[("x", b"x")]), Wanted::default())
            .await
            .contains("no medium that is known here")
    );
    let disc = dir.path().join("disc");
    fs::create_dir(&disc).unwrap();
    let info = b"Debian GNU/Linux 13.1.0 \"Trixie\" - Official amd64 NETINST 20250906";
    let disc = iso(&disc, &[(".disk/info", info), ("install.amd/vmlinuz", b"k")]);
    assert!(
        refusal(&disc, Wanted::default()).await.contains("starts from a disc drive only; import the netboot")
    );

    let text = dir.path().join("text");
    fs::write(&text, "hello").unwrap();
    assert!(refusal(&text, Wanted::default()).await.contains("neither an ISO image"));

    let broken = futures::stream::iter([Ok(Bytes::from_static(b"CD")), Err(())]);
    let error = receive(&systems, Wanted::default(), broken).await.unwrap_err();
    assert!(matches!(error, SystemsError::BrokenOff { bytes: 2 }));
    assert_eq!(fs::read_dir(&systems).unwrap().count(), 0);
}

#[tokio::test]
async fn names_and_links_that_lead_out_of_an_image_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let systems = dir.path().join("systems");
    fs::create_dir(dir.path().join("root")).unwrap();
    symlink("/etc", dir.path().join("root/link")).unwrap();
    let image = iso(
        dir.path(),
        &[
            (".treeinfo", treeinfo(&sha256(b"kernel")).as_bytes()),
            ("images/pxeboot/vmlinuz", b"kernel"),
            ("images/pxeboot/initrd.img", b"initrd"),
            ("XX-XX-XX-evil", b"x"),
            ("YYYY/evil", b"x"),
            ("ZZ/evil", b"x"),
        ],
    );
    let mut bytes = fs::read(&image).unwrap();
    for (name, evil) in [(&b"XX-XX-XX-evil"[..], &b"../../../evil"[..]), (b"YYYY", b"/etc"), (b"ZZ", b"..")] {
        let places: Vec<usize> =
            (0..bytes.len() - name.len()).filter(|at| bytes[*at..].starts_with(name)).collect();
        assert!(!places.is_empty());
        for at in places {
            bytes[at..at + evil.len()].copy_from_slice(evil);
        }
    }
    fs::write(&image, bytes).unwrap();
    let medium = import(&systems, &image, Wanted::default()).await.unwrap();
    let expected = [".treeinfo", "images/pxeboot/initrd.img", "images/pxeboot/vmlinuz"];
    assert_eq!(below(&systems.join(&medium.name)), expected);
    assert_eq!(fs::read_dir(&systems).unwrap().count(), 1);
}

/// Bytes of folders, names and places in them turned at random: an error or other files, never a panic, no end, or a
/// path that leads out.
#[test]
fn a_damaged_image_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let image = rocky(dir.path(), "");
    let whole = fs::read(&image).unwrap();
    let mut random = rand::rngs::StdRng::seed_from_u64(4);
    let path = dir.path().join("damaged.iso");
    let mut damaged = 0;
    for _ in 0..500 {
        let mut bytes = whole.clone();
        for _ in 0..random.random_range(1..20) {
            let at = random.random_range(16 * 2048..40 * 2048);
            bytes[at] = random.random();
        }
        fs::write(&path, &bytes).unwrap();
        let opened = Iso::open(fs::File::open(&path).unwrap());
        let Ok(files) = opened.as_ref().map_err(|_| ()).and_then(|iso| iso.files().map_err(|_| ())) else {
            damaged += 1;
            continue;
        };
        for entry in files {
            assert!(
                !entry.path.starts_with('/')
                    && entry.path.split('/').all(|part| part != ".." && !part.is_empty())
            );
            let mut read = Vec::new();
            if let Ok(iso) = &opened {
                let _ = iso.read(&entry).take(1 << 20).read_to_end(&mut read);
            }
        }
    }
    assert!(damaged > 0);
    assert!(matches!(Iso::open(fs::File::open("/dev/null").unwrap()), Err(IsoError::NotOne)));
}
