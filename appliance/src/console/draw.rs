//! The screen as it is drawn, and the loop that draws it.

use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use super::ask::{self, Answer, Question};
use super::network;
use super::screen::{Action, Screen, View};
use super::{Status, system};
use crate::config::Config;

const EVERY: Duration = Duration::from_secs(2);
/// Kernel messages come onto a machine's first terminal uncalled.
const CLEAN_EVERY: Duration = Duration::from_secs(30);

enum News {
    Status(Box<Status>),
    Away(String),
    Said(String),
    Code(String),
}

/// Until somebody leaves it with q.
pub fn run(config: &Config, settings: Option<&Path>) -> anyhow::Result<()> {
    let (sender, news) = channel();
    let socket = ask::socket(config);
    let watching = sender.clone();
    std::thread::spawn(move || {
        let ask = || match ask::ask(&socket, Question::Status) {
            Ok(Answer::Status(status)) => News::Status(status),
            Ok(_) => News::Away("the daemon answers something else".to_owned()),
            Err(error) => News::Away(format!("{error:#}")),
        };
        while watching.send(ask()).is_ok() {
            std::thread::sleep(EVERY);
        }
    });
    let mut terminal = ratatui::init();
    let mut screen = Screen::default();
    let (mut looked, mut cleaned) = (Instant::now(), Instant::now());
    // A small machine has better things to do than to draw the same again.
    let mut drawn = None;
    let ended = loop {
        for news in news.try_iter() {
            learn(&mut screen, news);
        }
        if screen.view() == View::Logs && looked.elapsed() > EVERY {
            screen.logs = system::logs();
            looked = Instant::now();
        }
        if cleaned.elapsed() > CLEAN_EVERY {
            let _ = terminal.clear();
            cleaned = Instant::now();
            drawn = None;
        }
        if drawn.as_ref() != Some(&screen) {
            if let Err(error) = terminal.draw(|frame| draw(frame, &screen)) {
                break Err(error.into());
            }
            drawn = Some(screen.clone());
        }
        let key = match heard() {
            Ok(Heard::Key(key)) => key,
            Ok(Heard::Nothing) => continue,
            Ok(Heard::OtherSize) => {
                drawn = None;
                continue;
            }
            Err(error) => break Err(error),
        };
        let before = screen.view();
        if key == KeyCode::Char('q') && screen.asked.is_none() {
            break Ok(());
        }
        let action = screen.key(key);
        if screen.view() != before {
            let _ = terminal.clear();
            drawn = None;
            match screen.view() {
                View::Logs => screen.logs = system::logs(),
                View::Network => look_at_nics(&mut screen, settings),
                View::Overview | View::Needs | View::Password | View::Power => {}
            }
        }
        if let Some(action) = action {
            carry_out(&mut screen, action, config, &sender);
        }
    };
    ratatui::restore();
    ended
}

enum Heard {
    Key(KeyCode),
    OtherSize,
    Nothing,
}

/// What came from the terminal in the last quarter of a second; Ctrl-C is q.
fn heard() -> anyhow::Result<Heard> {
    if !event::poll(Duration::from_millis(250))? {
        return Ok(Heard::Nothing);
    }
    Ok(match event::read()? {
        Event::Key(key) if key.kind != KeyEventKind::Press => Heard::Nothing,
        Event::Key(key) if key.modifiers.contains(KeyModifiers::CONTROL) => match key.code {
            KeyCode::Char('c') => Heard::Key(KeyCode::Char('q')),
            _ => Heard::Nothing,
        },
        Event::Key(key) => Heard::Key(key.code),
        Event::Resize(..) => Heard::OtherSize,
        _ => Heard::Nothing,
    })
}

fn learn(screen: &mut Screen, news: News) {
    match news {
        News::Status(status) => {
            screen.status = Some(*status);
            screen.away = None;
        }
        News::Away(why) => screen.away = Some(why),
        News::Said(sentence) => screen.said = Some(sentence),
        News::Code(code) => {
            if let Some(status) = &mut screen.status {
                status.code = Some(code);
            }
            screen.view = Some(View::Overview);
            screen.said =
                Some("The password of admin is gone. Set a new one with the code above.".to_owned());
        }
    }
}

fn look_at_nics(screen: &mut Screen, settings: Option<&Path>) {
    match Config::read_both(settings) {
        Ok((config, own)) => screen.nics = network::nics(Path::new("/sys/class/net"), &config, &own),
        Err(error) => screen.said = Some(format!("{error:#}")),
    }
}

fn carry_out(screen: &mut Screen, action: Action, config: &Config, sender: &Sender<News>) {
    let (sender, config, nics) = (sender.clone(), config.clone(), screen.nics.clone());
    screen.said = Some(
        match action {
            Action::ResetPassword => "Resetting the password ...",
            Action::ServeAnew => "Listening on every NIC and starting anew; this takes half a minute ...",
            Action::Restart => "Restarting ...",
            Action::PowerOff => "Powering off ...",
        }
        .to_owned(),
    );
    if action == Action::ServeAnew {
        for nic in &mut screen.nics {
            nic.setting = nic.wanted;
        }
    }
    std::thread::spawn(move || {
        let done = match action {
            Action::ResetPassword => match ask::ask(&ask::socket(&config), Question::ResetPassword) {
                Ok(Answer::Code(code)) => {
                    let _ = sender.send(News::Code(code));
                    return;
                }
                Ok(Answer::Refused(sentence)) => Err(anyhow::anyhow!(sentence)),
                Ok(Answer::Status(_)) => Err(anyhow::anyhow!("the daemon answers something else")),
                Err(error) => Err(error),
            },
            Action::ServeAnew => network::save(&config, &nics)
                .and_then(|()| system::serve_anew())
                .map(|()| "The NICs are served as they were set."),
            Action::Restart => system::restart().map(|()| "Restarting ..."),
            Action::PowerOff => system::power_off().map(|()| "Powering off ..."),
        };
        let said = done.map_or_else(|error| format!("That did not work: {error:#}"), str::to_owned);
        // The screen may have been left meanwhile.
        let _ = sender.send(News::Said(said));
    });
}

pub fn draw(frame: &mut Frame, screen: &Screen) {
    let [head, tabs, body, said, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Min(3),
        Constraint::Length(2),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(headline(screen)), head);
    frame.render_widget(Paragraph::new(choice(screen)), tabs);
    let lines = match screen.view() {
        View::Overview => overview(screen),
        View::Needs => needs(screen),
        View::Logs => logs(screen, body),
        View::Network => nics(screen),
        View::Password => password(screen),
        View::Power => power(screen),
    };
    let text = Paragraph::new(lines);
    // A line of a log is a line of the screen.
    let text = if screen.view() == View::Logs { text } else { text.wrap(Wrap { trim: false }) };
    frame.render_widget(text, body);
    if let Some(sentence) = &screen.said {
        frame.render_widget(Paragraph::new(sentence.as_str()).style(bold()).wrap(Wrap { trim: true }), said);
    }
    frame.render_widget(
        Paragraph::new(help(screen)).style(Style::new().add_modifier(Modifier::REVERSED)),
        keys,
    );
    if let Some(action) = screen.asked {
        ask_for(frame, screen, action);
    }
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn headline(screen: &Screen) -> Line<'static> {
    let state = match (&screen.away, &screen.status) {
        (Some(_), _) => "the daemon is not running; it is started again by itself".to_owned(),
        (None, Some(status)) => status.counts.clone(),
        (None, None) => "starting".to_owned(),
    };
    Line::from(vec![Span::styled("Elisandra", bold()), Span::raw(format!("  {state}"))])
}

fn choice(screen: &Screen) -> Line<'static> {
    let needs = screen.status.as_ref().map_or(0, |status| status.needs.len());
    let mut spans = Vec::new();
    for (number, view) in View::ALL.into_iter().enumerate() {
        let count = if view == View::Needs && needs > 0 { format!(" ({needs})") } else { String::new() };
        let text = format!(" {} {}{count} ", number + 1, view.title());
        let style =
            if view == screen.view() { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        spans.push(Span::styled(text, style));
    }
    Line::from(spans)
}

fn overview(screen: &Screen) -> Vec<Line<'static>> {
    let Some(status) = &screen.status else {
        let mut lines = vec![Line::from("The appliance is starting."), Line::default()];
        lines.extend(
            super::addresses().iter().map(|address| Line::from(format!("  Its address is {address}"))),
        );
        lines.extend(screen.away.iter().map(|why| Line::from(format!("  ({why})"))));
        return lines;
    };
    let mut lines = vec![Line::from("Open in a browser on this network:")];
    for address in &status.addresses {
        lines.push(Line::styled(format!("  https://{address}/"), bold()));
    }
    if status.addresses.is_empty() {
        lines.push(Line::from("  not reachable yet: there is no address"));
    }
    lines.push(Line::from("The authority of its certificate has this fingerprint (SHA256):"));
    let octets: Vec<&str> = status.fingerprint.split(':').collect();
    lines.extend(octets.chunks(16).map(|half| Line::from(format!("  {}", half.join(":")))));
    match &status.code {
        Some(code) => {
            lines.push(Line::from("Set the password of admin there, with this one-time code:"));
            lines.push(Line::styled(format!("  {code}"), bold()));
        }
        None => lines.push(Line::from("Log in with the password that was set. Forgotten? Press 5.")),
    }
    lines.push(Line::default());
    lines.push(Line::from(status.network.clone()));
    lines.extend(status.warnings.iter().map(|warning| Line::styled(warning.clone(), bold())));
    if !status.needs.is_empty() {
        lines.push(Line::styled(format!("Waiting for somebody: {}. Press 2.", status.needs.len()), bold()));
    }
    lines.extend(status.machines.iter().map(|(name, phase)| Line::from(format!("  {name:<16} {phase}"))));
    lines
}

fn needs(screen: &Screen) -> Vec<Line<'static>> {
    let needs = screen.status.as_ref().map(|status| status.needs.as_slice()).unwrap_or_default();
    if needs.is_empty() {
        return vec![Line::from("Nothing waits for anybody.")];
    }
    let mut lines = Vec::new();
    for need in needs.iter().skip(screen.row) {
        lines.push(Line::from(vec![
            Span::styled(need.name.clone(), bold()),
            Span::raw(format!(": {}", need.what)),
        ]));
        lines.push(Line::from(format!("    -> {}", need.hint)));
    }
    lines
}

fn logs(screen: &Screen, body: Rect) -> Vec<Line<'static>> {
    let end = screen.logs.len().saturating_sub(screen.back).max(1).min(screen.logs.len());
    let begin = end.saturating_sub(usize::from(body.height));
    screen.logs[begin..end].iter().map(|line| Line::from(line.clone())).collect()
}

fn nics(screen: &Screen) -> Vec<Line<'static>> {
    if screen.nics.is_empty() {
        return vec![Line::from("This machine has no network card that Linux knows.")];
    }
    let mut lines = vec![Line::from("How each network card is to be served:"), Line::default()];
    for (row, nic) in screen.nics.iter().enumerate() {
        let mark = if row == screen.row { ">" } else { " " };
        let cable = if nic.cable { "cable" } else { "no cable" };
        let changed = if nic.wanted == nic.setting { "" } else { "  (changed)" };
        let text =
            format!(" {mark} {:<10} {:<18} {cable:<9} {:<6}{changed}", nic.name, nic.mac, nic.wanted.word());
        lines.push(Line::styled(text, if row == screen.row { bold() } else { Style::new() }));
        lines.push(Line::from(format!("     {}", network::about(nic.wanted))));
        if nic.fixed {
            lines.push(Line::from("     said in the settings file, which comes first"));
        }
    }
    lines.push(Line::default());
    lines.push(Line::from("Space changes the card that is marked; Enter shows what would be done and asks."));
    lines
}

fn password(screen: &Screen) -> Vec<Line<'static>> {
    let mut lines = vec![
        Line::from("Whoever stands here can make a new one-time code for admin:"),
        Line::default(),
        Line::from("  - the password of admin is gone, and whoever is logged in as admin is out,"),
        Line::from("    with all tokens that admin made for programs;"),
        Line::from("  - a new password is set with the code, in a browser or by eli login --code;"),
        Line::from("  - other users are not touched; machines and VMs go on;"),
        Line::from("  - it is written on the site's timeline that it was done here."),
        Line::default(),
    ];
    if screen.away.is_some() {
        lines.push(Line::styled("The daemon is not running; it has to run for that.", bold()));
    } else {
        lines.push(Line::styled("Enter makes the code.", bold()));
    }
    lines
}

fn power(screen: &Screen) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for (row, text) in ["Restart this machine", "Power this machine off"].into_iter().enumerate() {
        let mark = if row == screen.row { ">" } else { " " };
        lines.push(Line::styled(
            format!(" {mark} {text}"),
            if row == screen.row { bold() } else { Style::new() },
        ));
    }
    lines.push(Line::default());
    lines.push(Line::from("VMs on this machine stop with it. Other hosts and their VMs go on. Until this"));
    lines.push(Line::from("one is back nothing new begins there, and nothing boots from the network."));
    lines
}

fn help(screen: &Screen) -> &'static str {
    if screen.asked.is_some() {
        return " y: yes   any other key: no";
    }
    match screen.view() {
        View::Overview => " 1-6 or Tab: choose   q: leave",
        View::Needs | View::Logs => " 1-6 or Tab: choose   Up, Down, PgUp, PgDn: scroll   Esc: overview",
        View::Network => " 1-6: choose   Up, Down: mark   Space: change   Enter: save   Esc: overview",
        View::Password => " 1-6 or Tab: choose   Enter: make a code   Esc: overview",
        View::Power => " 1-6 or Tab: choose   Up, Down: mark   Enter: do it   Esc: overview",
    }
}

fn ask_for(frame: &mut Frame, screen: &Screen, action: Action) {
    let question: Vec<String> = match action {
        Action::ResetPassword => {
            vec!["Make a new code, and end every session of admin?".into()]
        }
        Action::ServeAnew => {
            let mut lines = network::changes(&screen.nics).unwrap_or_default();
            lines.push("Write this, listen on every card and start the daemon again?".into());
            lines.push("Machines that boot meanwhile try again by themselves.".into());
            lines
        }
        Action::Restart => vec!["Restart this machine? VMs on it stop.".into()],
        Action::PowerOff => vec!["Power this machine off? VMs on it stop.".into()],
    };
    let width = question.iter().map(|line| line.chars().count()).max().unwrap_or(0) as u16 + 4;
    let area = centred(frame.area(), width, question.len() as u16 + 4);
    let mut lines: Vec<Line> = question.into_iter().map(Line::from).collect();
    lines.push(Line::default());
    lines.push(Line::styled("y: yes   any other key: no", bold()));
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" Sure? ")), area);
}

fn centred(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::status::Need;
    use super::*;
    use crate::config::Setting;

    fn shown(screen: &Screen) -> String {
        let mut terminal = Terminal::new(TestBackend::new(80, 25)).unwrap();
        terminal.draw(|frame| draw(frame, screen)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y: u16| (0..80).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..25).map(row).collect::<Vec<_>>().join("\n")
    }

    fn screen() -> Screen {
        let status = Status {
            addresses: vec![[192, 168, 1, 20].into(), [10, 77, 0, 1].into()],
            fingerprint: ["AB"; 32].join(":"),
            code: Some("K7QF-2M9D".into()),
            network: "Serving 10.77.0.0/16 on lan0.".into(),
            warnings: vec!["WARNING: 10.77.0.9 gives addresses on lan0, too".into()],
            counts: "2 machines, 1 of them ready; 3 VMs; 1 service".into(),
            machines: vec![("host-2".into(), "found".into())],
            needs: vec![Need {
                name: "host-2".into(),
                what: "/dev/nvme0n1 holds ext4 'data'; wipe it?".into(),
                hint: "adopt it with wiping".into(),
            }],
        };
        let nic = |name: &str, cable, wanted, fixed| network::Nic {
            name: name.into(),
            mac: "52:54:00:00:00:01".into(),
            cable,
            setting: Setting::Auto,
            wanted,
            fixed,
        };
        Screen {
            status: Some(status),
            logs: (1..=40)
                .map(|number| format!("Nov 28 12:00:{number:02} appliance elisandra[1]: line {number}"))
                .collect(),
            nics: vec![nic("eth0", true, Setting::Full, false), nic("eth1", false, Setting::Auto, true)],
            ..Screen::default()
        }
    }

    #[test]
    fn the_overview_has_all_that_a_first_login_takes_in_80_columns() {
        insta::assert_snapshot!(shown(&screen()));
    }

    #[test]
    fn every_view_is_drawn() {
        for view in View::ALL {
            let screen = Screen { view: Some(view), ..screen() };
            insta::assert_snapshot!(format!("view_{view:?}").to_lowercase(), shown(&screen));
        }
    }

    #[test]
    fn what_a_yes_would_do_is_said() {
        let asked = |view, action| shown(&Screen { view: Some(view), asked: Some(action), ..screen() });
        insta::assert_snapshot!("asked_network", asked(View::Network, Action::ServeAnew));
        insta::assert_snapshot!("asked_password", asked(View::Password, Action::ResetPassword));
    }

    #[test]
    fn without_the_daemon_it_says_so_and_keeps_what_it_knew() {
        let away = shown(&Screen { away: Some("the daemon does not answer".into()), ..screen() });
        assert!(away.contains("the daemon is not running") && away.contains("https://10.77.0.1/"), "{away}");
        let first = shown(&Screen { away: Some("the daemon does not answer".into()), ..Screen::default() });
        assert!(first.contains("The appliance is starting."), "{first}");
        // Nothing panics on a screen that is far too small.
        let mut terminal = Terminal::new(TestBackend::new(10, 4)).unwrap();
        let asked = Screen { asked: Some(Action::Restart), view: Some(View::Logs), ..screen() };
        terminal.draw(|frame| draw(frame, &asked)).unwrap();
    }
}
