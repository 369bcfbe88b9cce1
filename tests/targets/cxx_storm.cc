/*
 * cxx_storm.cc - a C++ program that makes strings, maps and exceptions until its input ends, and checks
 * them. Prints "ready", then "rounds ROUNDS wrong WRONG".
 */
#include <atomic>
#include <cstdio>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

static std::atomic<long> rounds, wrong;
static std::atomic<bool> over;

static void refuse(int i) {
    throw std::runtime_error("refused " + std::to_string(i) + std::string(100, 'x'));
}

static void work() {
    for (int i = 0; !over; i++) {
        std::map<std::string, std::vector<int>> rows;
        for (int k = 0; k < 50; k++)
            rows[std::to_string(k * i)].assign(static_cast<size_t>(k + 1), k);
        auto last = std::make_unique<std::string>(200, 'y');
        try {
            refuse(i);
            wrong++;
        } catch (const std::exception &error) {
            wrong += std::string(error.what()).find(std::to_string(i)) == std::string::npos;
        }
        wrong += last->size() != 200 || rows.empty();
        rounds++;
    }
}

int main() {
    std::puts("ready");
    std::fflush(stdout);
    std::thread workers[2] = {std::thread(work), std::thread(work)};
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    over = true;
    for (std::thread &worker : workers)
        worker.join();
    std::printf("rounds %ld wrong %ld\n", rounds.load(), wrong.load());
}
