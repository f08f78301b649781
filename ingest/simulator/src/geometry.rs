//! Places and paths on the ground of a city: metres east and north of its first zone, and the way between two places.

use crate::calendar::LocalTime;
use crate::city::{City, Zone, ZoneKind};
use crate::random::Random;

const METRES_PER_DEGREE: f64 = 111_195.0;
/// How far a city reaches beyond its outermost zone centres.
const MARGIN_M: f32 = 2_500.0;

/// Metres east (x) and north (y) of a city's first zone.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Point {
    pub(crate) x: f32,
    pub(crate) y: f32,
}

impl Point {
    pub(crate) fn distance_m(self, other: Point) -> f32 {
        (self.x - other.x).hypot(self.y - other.y)
    }

    fn toward(self, other: Point, share: f32) -> Point {
        Point { x: self.x + (other.x - self.x) * share, y: self.y + (other.y - self.y) * share }
    }
}

/// A city laid out flat.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) city: &'static City,
    /// Number of its first zone when the zones of all cities are counted through.
    pub(crate) first_zone: u16,
    metres_per_lon_degree: f64,
    centres: Vec<Point>,
    south_west: Point,
    north_east: Point,
}

impl Ground {
    pub(crate) fn new(city: &'static City, first_zone: u16) -> Self {
        let origin = &city.zones[0];
        let metres_per_lon_degree = METRES_PER_DEGREE * origin.lat.to_radians().cos();
        let place = |zone: &Zone| Point {
            x: ((zone.lon - origin.lon) * metres_per_lon_degree) as f32,
            y: ((zone.lat - origin.lat) * METRES_PER_DEGREE) as f32,
        };
        let centres: Vec<Point> = city.zones.iter().map(place).collect();
        let extreme = |of: fn(&Point) -> f32, pick: fn(f32, f32) -> f32| centres.iter().map(of).fold(0.0, pick);
        let south_west = Point { x: extreme(|p| p.x, f32::min) - MARGIN_M, y: extreme(|p| p.y, f32::min) - MARGIN_M };
        let north_east = Point { x: extreme(|p| p.x, f32::max) + MARGIN_M, y: extreme(|p| p.y, f32::max) + MARGIN_M };
        Self { city, first_zone, metres_per_lon_degree, centres, south_west, north_east }
    }

    /// Latitude and longitude in degrees.
    pub(crate) fn degrees(&self, point: Point) -> (f64, f64) {
        let origin = &self.city.zones[0];
        (origin.lat + f64::from(point.y) / METRES_PER_DEGREE, origin.lon + f64::from(point.x) / self.metres_per_lon_degree)
    }

    /// The zone whose centre is nearest, within this city.
    pub(crate) fn zone_at(&self, point: Point) -> usize {
        let mut best = (0, f32::MAX);
        for (index, centre) in self.centres.iter().enumerate() {
            let (dx, dy) = (centre.x - point.x, centre.y - point.y);
            let square = dx * dx + dy * dy;
            if square < best.1 {
                best = (index, square);
            }
        }
        best.0
    }

    /// A place where somebody starts (`leaving`) or ends a trip at this hour.
    pub(crate) fn place(&self, local: LocalTime, leaving: bool, random: &mut Random) -> Point {
        if random.chance(0.1) {
            return self.anywhere(random);
        }
        let zone = random.weighted(self.city.zones.iter().map(|zone| local.pull(zone.kind, leaving)));
        let spread_m = match self.city.zones[zone].kind {
            ZoneKind::Station | ZoneKind::Stadium => 180.0,
            ZoneKind::Airport | ZoneKind::Nightlife | ZoneKind::Shopping | ZoneKind::Campus => 350.0,
            ZoneKind::Business | ZoneKind::Centre => 600.0,
            ZoneKind::Residential => 1_100.0,
        };
        let centre = self.centres[zone];
        self.inside(Point { x: centre.x + (random.normal() * spread_m) as f32, y: centre.y + (random.normal() * spread_m) as f32 })
    }

    /// Any place of the city, all alike.
    pub(crate) fn anywhere(&self, random: &mut Random) -> Point {
        let (low, high) = (self.south_west, self.north_east);
        Point {
            x: random.uniform(f64::from(low.x), f64::from(high.x)) as f32,
            y: random.uniform(f64::from(low.y), f64::from(high.y)) as f32,
        }
    }

    /// The middle of a zone.
    pub(crate) fn centre(&self, zone: usize) -> Point {
        self.centres[zone]
    }

    pub(crate) fn inside(&self, point: Point) -> Point {
        Point { x: point.x.clamp(self.south_west.x, self.north_east.x), y: point.y.clamp(self.south_west.y, self.north_east.y) }
    }
}

/// Roads by their free-flow speed.
const LOCAL_M_S: f32 = 7.0;
const ARTERIAL_M_S: f32 = 11.5;
const HIGHWAY_M_S: f32 = 25.0;
/// Ways longer than this use the highway.
const HIGHWAY_FROM_M: f32 = 7_000.0;
const LEGS_MAX: usize = 8;

#[derive(Debug, Clone, Copy, Default)]
struct Leg {
    to: Point,
    end_us: i64,
    speed_m_s: f32,
    heading_deg: f32,
}

/// A way through a city: straight legs, each at one speed. Where it is at a time is a pure function of the time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Path {
    from: Point,
    start_us: i64,
    legs: [Leg; LEGS_MAX],
    count: u8,
    length_m: f32,
}

/// Where something that follows a path is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Position {
    pub(crate) point: Point,
    pub(crate) speed_m_s: f32,
    /// Degrees clockwise from north.
    pub(crate) heading_deg: f32,
}

impl Path {
    /// Standing still.
    pub(crate) fn parked(at: Point, heading_deg: f32, since_us: i64) -> Self {
        let leg = Leg { to: at, end_us: since_us, speed_m_s: 0.0, heading_deg };
        let mut legs = [Leg::default(); LEGS_MAX];
        legs[0] = leg;
        Self { from: at, start_us: since_us, legs, count: 1, length_m: 0.0 }
    }

    /// Along the streets of a city whose grid lies at `grid_deg`, `pace` being what traffic and driver leave of free flow.
    pub(crate) fn between(from: Point, to: Point, grid_deg: f64, pace: f32, start_us: i64) -> Self {
        let mut path = Self { from, start_us, ..Self::default() };
        let direct_m = from.distance_m(to);
        if direct_m > HIGHWAY_FROM_M {
            let (ramp_on, ramp_off) = (from.toward(to, 1_200.0 / direct_m), from.toward(to, 1.0 - 1_200.0 / direct_m));
            path.staircase(ramp_on, grid_deg, 1, LOCAL_M_S * pace);
            path.leg(ramp_off, HIGHWAY_M_S * pace);
            path.staircase(to, grid_deg, 1, LOCAL_M_S * pace);
        } else {
            let steps = 1 + (direct_m / 2_000.0) as usize;
            path.staircase(to, grid_deg, steps.min(LEGS_MAX / 2), if steps > 1 { ARTERIAL_M_S } else { LOCAL_M_S } * pace);
        }
        path
    }

    /// Goes to a point in turns along both axes of the grid.
    fn staircase(&mut self, to: Point, grid_deg: f64, steps: usize, speed_m_s: f32) {
        let from = self.end();
        let (sin, cos) = (grid_deg.to_radians().sin() as f32, grid_deg.to_radians().cos() as f32);
        let (dx, dy) = (to.x - from.x, to.y - from.y);
        let along = dx * sin + dy * cos;
        for step in 1..=steps {
            let corner = from.toward(to, (step - 1) as f32 / steps as f32);
            let part = along / steps as f32;
            self.leg(Point { x: corner.x + part * sin, y: corner.y + part * cos }, speed_m_s);
            self.leg(from.toward(to, step as f32 / steps as f32), speed_m_s);
        }
    }

    fn leg(&mut self, to: Point, speed_m_s: f32) {
        let from = self.end();
        let length_m = from.distance_m(to);
        let speed_m_s = speed_m_s.max(0.5);
        let heading_deg = (to.x - from.x).atan2(to.y - from.y).to_degrees().rem_euclid(360.0);
        let end_us = self.end_us() + (f64::from(length_m / speed_m_s) * 1e6) as i64;
        self.legs[usize::from(self.count)] = Leg { to, end_us, speed_m_s, heading_deg };
        self.count += 1;
        self.length_m += length_m;
    }

    fn last(&self) -> Option<&Leg> {
        self.legs[..usize::from(self.count)].last()
    }

    /// Where it leads.
    pub(crate) fn end(&self) -> Point {
        self.last().map_or(self.from, |leg| leg.to)
    }

    /// When it is reached.
    pub(crate) fn end_us(&self) -> i64 {
        self.last().map_or(self.start_us, |leg| leg.end_us)
    }

    pub(crate) fn length_m(&self) -> f32 {
        self.length_m
    }

    pub(crate) fn at(&self, time_us: i64) -> Position {
        let (mut from, mut start_us) = (self.from, self.start_us);
        for leg in &self.legs[..usize::from(self.count)] {
            if time_us < leg.end_us {
                let share = (time_us - start_us).max(0) as f32 / (leg.end_us - start_us).max(1) as f32;
                return Position { point: from.toward(leg.to, share), speed_m_s: leg.speed_m_s, heading_deg: leg.heading_deg };
            }
            (from, start_us) = (leg.to, leg.end_us);
        }
        Position { point: from, speed_m_s: 0.0, heading_deg: self.last().map_or(0.0, |leg| leg.heading_deg) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::city::CITIES;

    #[test]
    fn a_path_leads_where_it_should_without_jumps() {
        let mut random = Random::new(3);
        for _ in 0..500 {
            let mut corner = || Point { x: random.uniform(-15e3, 15e3) as f32, y: random.uniform(-15e3, 15e3) as f32 };
            let (from, to) = (corner(), corner());
            let path = Path::between(from, to, 29.0, 1.1, 5_000_000);
            assert!(path.end().distance_m(to) < 0.1);
            assert!(path.length_m() >= from.distance_m(to) - 1.0 && path.length_m() < 1.5 * from.distance_m(to) + 1.0);
            let mut before = path.at(5_000_000).point;
            assert!(before.distance_m(from) < 0.1);
            for time_us in (6_000_000..path.end_us() + 2_000_000).step_by(1_000_000) {
                let now = path.at(time_us);
                assert!(now.point.distance_m(before) < 30.0, "more than 108 km/h");
                before = now.point;
            }
            assert_eq!(path.at(i64::MAX).speed_m_s, 0.0);
        }
    }

    #[test]
    fn zones_are_found_by_their_centres() {
        for city in &CITIES {
            let ground = Ground::new(city, 0);
            for (index, zone) in city.zones.iter().enumerate() {
                assert_eq!(ground.zone_at(ground.centres[index]), index);
                let (lat, lon) = ground.degrees(ground.centres[index]);
                assert!((lat - zone.lat).abs() < 1e-5 && (lon - zone.lon).abs() < 1e-5, "{}", zone.name);
            }
        }
    }
}
