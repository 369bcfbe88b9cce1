/*
 * routes.cc - one leak behind containers, and a cache that uses the same ones.
 *
 * routes SECONDS: in ticks of 5 ms four callers open a session each and add points to it; sessions are never closed.
 * The leak is RouteSession::add: a vector that grew and a map with strings. Cache::put uses the same containers and
 * removes its oldest entry.
 */
#include <chrono>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#define PLACE __attribute__((noinline, noclone))

struct Point {
    double x, y;
    std::string name;
};

class RouteSession {
  public:
    PLACE void add(int number) {
        points_.emplace_back(Point{1.0 * number, 2.0 * number, std::string(40, 'a')});
        names_[number] = std::string(100, 'b');
        asm volatile("" ::: "memory");
    }

  private:
    std::vector<Point> points_;
    std::map<int, std::string> names_;
};

class Cache {
  public:
    PLACE void put(int number) {
        entries_.emplace_back(std::vector<int>(300, number));
        if (entries_.size() > 100)
            entries_.pop_front();
        asm volatile("" ::: "memory");
    }

  private:
    std::deque<std::vector<int>> entries_;
};

static std::vector<RouteSession *> sessions;

PLACE static RouteSession *open_session(void) {
    sessions.push_back(new RouteSession);
    return sessions.back();
}

#define CALLER(name)                                                                               \
    PLACE static void name(void) {                                                                 \
        RouteSession *session = open_session();                                                    \
        for (int k = 0; k < 20; k++)                                                               \
            session->add(k);                                                                       \
        asm volatile("" ::: "memory");                                                             \
    }
CALLER(import_routes)
CALLER(follow_route)
CALLER(replay_route)
CALLER(merge_routes)

int main(int argc, char **argv) {
    using clock = std::chrono::steady_clock;
    const auto end =
        clock::now() + std::chrono::duration<double>(argc > 1 ? std::atof(argv[1]) : 1.0);
    Cache cache;
    for (int tick = 0; clock::now() < end; tick++) {
        import_routes();
        follow_route();
        replay_route();
        merge_routes();
        for (int k = 0; k < 20; k++)
            cache.put(tick + k);
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return 0;
}
