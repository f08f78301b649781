//! What people do in the app and on the web: sessions of page and app events, ad impressions and clicks.
//!
//! A session that ends in a request is how every trip begins. State: one record an open session; it is dropped with its last event.

use crate::agenda::Action;
use crate::calendar::LocalTime;
use crate::geometry::Point;
use crate::random::mix;
use crate::rider::Rider;
use crate::truth::Facts;
use crate::world::World;
use crate::{EventBuffer, Topic};

/// `event_name`s; the numbers are those of [`Facts::kind`].
pub(crate) const EVENT_NAMES: &[&str] =
    &["page_view", "screen_view", "ad_impression", "ad_click", "application_open", "search", "quote_view", "request_ride"];
const PAGE_VIEW: u8 = 0;
const SCREEN_VIEW: u8 = 1;
pub(crate) const AD_IMPRESSION: u8 = 2;
pub(crate) const AD_CLICK: u8 = 3;
const APPLICATION_OPEN: u8 = 4;
const SEARCH: u8 = 5;
const QUOTE_VIEW: u8 = 6;
pub(crate) const REQUEST_RIDE: u8 = 7;

/// An ad campaign.
#[derive(Debug)]
pub(crate) struct Campaign {
    pub(crate) name: &'static str,
    source: &'static str,
    medium: &'static str,
    /// Share of impressions that are clicked.
    click_rate: f64,
    weight: f64,
}

pub(crate) static CAMPAIGNS: [Campaign; 6] = [
    Campaign { name: "airport_flat_fare", source: "google", medium: "cpc", click_rate: 0.045, weight: 3.0 },
    Campaign { name: "first_ride_free", source: "instagram", medium: "social", click_rate: 0.022, weight: 4.0 },
    Campaign { name: "night_out", source: "tiktok", medium: "social", click_rate: 0.018, weight: 3.0 },
    Campaign { name: "commuter_pass", source: "linkedin", medium: "cpc", click_rate: 0.012, weight: 1.5 },
    Campaign { name: "stadium_shuttle", source: "google", medium: "display", click_rate: 0.008, weight: 2.0 },
    Campaign { name: "come_back", source: "newsletter", medium: "email", click_rate: 0.060, weight: 1.0 },
];
/// [`Facts::campaign`] of events that no campaign led to.
pub(crate) const NO_CAMPAIGN: u8 = CAMPAIGNS.len() as u8;

/// Where people use the app: Snowplow's `platform`, `app_id` and `dvce_type`, and a user agent.
struct Platform {
    platform: &'static str,
    app_id: &'static str,
    dvce_type: &'static str,
    useragent: &'static str,
}

static PLATFORMS: [Platform; 4] = [
    Platform { platform: "mob", app_id: "rider-ios", dvce_type: "Mobile", useragent: "Watershed/7.3 (iPhone; iOS 19.1)" },
    Platform { platform: "mob", app_id: "rider-android", dvce_type: "Mobile", useragent: "Watershed/7.3 (Android 16; Pixel 10)" },
    Platform {
        platform: "web",
        app_id: "rider-web",
        dvce_type: "Computer",
        useragent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    },
    Platform {
        platform: "web",
        app_id: "rider-web",
        dvce_type: "Mobile",
        useragent: "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 Safari/604.1",
    },
];

/// Pages a visitor may look at beside the way to a ride.
const PAGES: &[&str] = &["/", "/promotions", "/trips", "/account", "/help", "/prices", "/airport"];
const STEPS_MAX: usize = 12;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    /// `None` for somebody who has not signed in.
    rider: Option<Rider>,
    city: u8,
    domain_user: u64,
    id: u64,
    platform: u8,
    campaign: u8,
    /// (event, page) of each step.
    steps: [(u8, u8); STEPS_MAX],
    count: u8,
    done: u8,
    /// Where from and to, if it ends in a request.
    plan: Option<(Point, Point)>,
}

impl Session {
    fn step(&mut self, event: u8, page: u8) {
        if usize::from(self.count) < STEPS_MAX {
            self.steps[usize::from(self.count)] = (event, page);
            self.count += 1;
        }
    }
}

impl World {
    /// Somebody wants a ride: the session that leads to the request.
    pub(crate) fn want_ride(&mut self, city: u8, out: &mut EventBuffer) {
        let Some(rider) = self.free_rider(city) else { return };
        let ground = &self.grounds[usize::from(city)];
        let local = LocalTime::at(self.now_us, ground.city.utc_offset_h);
        let from = ground.place(local, true, &mut self.random);
        let mut to = ground.place(local, false, &mut self.random);
        while from.distance_m(to) < 700.0 {
            // Nobody rides to where they are; 0.1 of all places lie anywhere, so this ends.
            to = ground.place(local, false, &mut self.random);
        }
        let campaign = if self.random.chance(0.06) { self.any_campaign() } else { NO_CAMPAIGN };
        self.open_session(Some(rider), city, campaign, Some((from, to)), out);
    }

    /// Somebody looks around; half of them are known.
    pub(crate) fn browse(&mut self, city: u8, out: &mut EventBuffer) {
        let rider = self.random.chance(0.5).then(|| self.any_rider(city));
        self.open_session(rider, city, NO_CAMPAIGN, None, out);
    }

    /// Somebody sees an ad on another site, and may click it.
    pub(crate) fn see_ad(&mut self, city: u8, out: &mut EventBuffer) {
        let campaign = self.any_campaign();
        let visitor = self.new_session(None, city, campaign, None);
        self.click_event(&visitor, AD_IMPRESSION, 0, out);
        if self.random.chance(CAMPAIGNS[usize::from(campaign)].click_rate) {
            let mut session = visitor;
            session.step(AD_CLICK, 0);
            self.lead_through(&mut session);
            let slot = self.sessions.insert(session);
            let seconds = self.random.uniform(0.5, 12.0);
            self.plan_in(seconds, Action::Click(slot));
        }
    }

    /// The next step of a session.
    pub(crate) fn click(&mut self, slot: u32, out: &mut EventBuffer) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let (event, page) = session.steps[usize::from(session.done)];
        session.done += 1;
        let over = session.done == session.count;
        let session = *session;
        self.click_event(&session, event, page, out);
        if over && session.plan.is_some() {
            let seconds = self.random.uniform(0.1, 0.9);
            return self.plan_in(seconds, Action::Request(slot));
        }
        if over {
            self.sessions.remove(slot);
            return;
        }
        let seconds = 1.0 + self.random.exponential(9.0);
        self.plan_in(seconds.min(90.0), Action::Click(slot));
    }

    /// A session has led to a request.
    pub(crate) fn request(&mut self, slot: u32, out: &mut EventBuffer) {
        let Some(Session { rider: Some(rider), city, plan: Some(plan), .. }) = self.sessions.remove(slot) else { return };
        self.request_ride(rider, city, plan, None, out);
    }

    fn open_session(&mut self, rider: Option<Rider>, city: u8, campaign: u8, plan: Option<(Point, Point)>, out: &mut EventBuffer) {
        let mut session = self.new_session(rider, city, campaign, plan);
        self.lead_through(&mut session);
        let slot = self.sessions.insert(session);
        self.click(slot, out);
    }

    fn new_session(&mut self, rider: Option<Rider>, city: u8, campaign: u8, plan: Option<(Point, Point)>) -> Session {
        let platform = self.random.weighted([4.0, 4.0, 1.5, 1.5].into_iter()) as u8;
        let stranger = mix(self.random.next_u64());
        Session {
            rider,
            city,
            domain_user: rider.map_or(stranger, |rider| rider.domain_user(platform)),
            id: self.next_id(),
            platform,
            campaign,
            steps: [(0, 0); STEPS_MAX],
            count: 0,
            done: 0,
            plan,
        }
    }

    /// Lays out the steps: landing, a look around, and for those with a plan the way to the request.
    fn lead_through(&mut self, session: &mut Session) {
        let app = PLATFORMS[usize::from(session.platform)].platform == "mob";
        let view = if app { SCREEN_VIEW } else { PAGE_VIEW };
        session.step(if app { APPLICATION_OPEN } else { PAGE_VIEW }, 0);
        let looks = if session.plan.is_some() { self.random.below(2) } else { self.random.below(6) };
        for _ in 0..looks {
            session.step(view, self.random.below(PAGES.len() as u64) as u8);
        }
        if session.plan.is_some() {
            session.step(SEARCH, 0);
            session.step(QUOTE_VIEW, 0);
            session.step(REQUEST_RIDE, 0);
        } else if self.random.chance(0.4) {
            session.step(SEARCH, 0);
            if self.random.chance(0.6) {
                session.step(QUOTE_VIEW, 0);
            }
        }
    }

    fn any_campaign(&mut self) -> u8 {
        self.random.weighted(CAMPAIGNS.iter().map(|campaign| campaign.weight)) as u8
    }

    fn click_event(&mut self, session: &Session, event: u8, page: u8, out: &mut EventBuffer) {
        let ground = &self.grounds[usize::from(session.city)];
        let facts = Facts {
            topic: Topic::Clickstream,
            event_time_us: self.now_us,
            sequence: 0,
            kind: event,
            city: session.city,
            zone: ground.first_zone,
            campaign: session.campaign,
            cents: 0,
        };
        let platform = &PLATFORMS[usize::from(session.platform)];
        let ad = event == AD_IMPRESSION || event == AD_CLICK;
        let path = match event {
            SEARCH => "/ride/search",
            QUOTE_VIEW => "/ride/quote",
            REQUEST_RIDE => "/ride/request",
            _ => PAGES[usize::from(page)],
        };
        self.emitter.emit(
            out,
            facts,
            |key| key.bare_hashed("", session.domain_user),
            |json| {
                json.text("event_name", EVENT_NAMES[usize::from(event)]);
                json.text("app_id", platform.app_id);
                json.text("platform", platform.platform);
                json.hashed("domain_userid", "", session.domain_user);
                if event != AD_IMPRESSION {
                    json.hashed("domain_sessionid", "", session.id);
                }
                if let Some(rider) = session.rider {
                    json.numbered("user_id", "rdr_", rider.number);
                    json.address("user_ipaddress", rider.ip(session.city));
                }
                json.text("city", ground.city.name);
                json.text("geo_country", ground.city.country);
                json.text("dvce_type", platform.dvce_type);
                json.text("useragent", platform.useragent);
                if !ad {
                    json.text("page_urlpath", path);
                }
                if session.campaign != NO_CAMPAIGN {
                    let campaign = &CAMPAIGNS[usize::from(session.campaign)];
                    json.text("mkt_source", campaign.source);
                    json.text("mkt_medium", campaign.medium);
                    json.text("mkt_campaign", campaign.name);
                }
                let (category, action) = match event {
                    AD_IMPRESSION => ("ad", "impression"),
                    AD_CLICK => ("ad", "click"),
                    SEARCH => ("ride", "search"),
                    QUOTE_VIEW => ("ride", "quote"),
                    REQUEST_RIDE => ("ride", "request"),
                    _ => return,
                };
                json.text("se_category", category);
                json.text("se_action", action);
            },
        );
    }
}
