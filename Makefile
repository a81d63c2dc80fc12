# weir: see README.md. PG_CONFIG picks the PostgreSQL to build for.
EXTENSION = weir
MODULE_big = weir
DATA = sql/weir--0.1.sql

OBJS = $(patsubst %.c,%.o,$(wildcard src/*.c src/*/*.c)) \
	$(patsubst %.cpp,%.o,$(wildcard src/*/*.cpp))

PG_CPPFLAGS = -I$(srcdir)/src
PG_CFLAGS = -std=gnu11 -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers \
	-Wno-clobbered -Wno-declaration-after-statement
PG_CXXFLAGS = -std=c++17 -O3 -fPIC -Wall -Wextra -fvisibility=hidden
SHLIB_LINK = -lrdkafka -lsimdjson -lstdc++ -lpthread

ifdef WERROR
PG_CFLAGS += -Werror
PG_CXXFLAGS += -Werror
endif

# pg_regress: no broker needed. Each name is sql/NAME.sql and expected/NAME.out.
REGRESS = $(patsubst sql/%.sql,%,$(filter-out sql/weir--%,$(sort $(wildcard sql/*.sql))))
REGRESS_OPTS = --inputdir=. --load-extension=weir
# Isolation specs: test/specs/NAME.spec and test/expected/NAME.out.
ISOLATION = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --load-extension=weir

# bitcode would need clang and gains nothing here
override with_llvm := no
PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# a changed header rebuilds everything: a struct that two files see differently is no fun
$(OBJS): $(wildcard src/*.h src/*/*.h)
