/*
 * extension.cc - a C++ library that a program without C++ opens privately.
 */
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

static std::vector<std::string> kept;

extern "C" int extension_fill(int n) {
    for (int i = 0; i < n; i++)
        kept.push_back(std::string(500, static_cast<char>('a' + i % 26)));
    return static_cast<int>(kept.size());
}

extern "C" int extension_throw(int n) {
    int caught = 0;
    for (int i = 0; i < n; i++) {
        try {
            std::string text(1000, 'x');
            throw std::runtime_error(text);
        } catch (const std::exception &) {
            caught++;
        }
    }
    return caught;
}

extern "C" void extension_clear() {
    kept = std::vector<std::string>();
}
