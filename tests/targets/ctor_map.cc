/*
 * ctor_map.cc - a C++ library with one static map, filled before main: 200,000 nodes.
 */
#include <map>

static const std::map<long, long> table = [] {
    std::map<long, long> filled;
    for (long i = 0; i < 200000; i++)
        filled[i * 7919 % 200003] = i;
    return filled;
}();

extern "C" void *ctor_library_block() {
    return const_cast<long *>(&table.begin()->second);
}
