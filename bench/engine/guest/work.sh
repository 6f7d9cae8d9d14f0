#!/bin/sh
# The guest's side of bench/engine: fixed work between two lines on the console, which the host times.
#   sh /work.sh prepare     data into a tmpfs, so that no disk is in the figures
#   sh /work.sh NAME        "@@begin NAME", the work, "@@end NAME RESULT"; every contestant must print the same result
export LC_ALL=C
folder=/run/work

prepare() {
  mkdir -p $folder
  mount -t tmpfs work $folder
  cd $folder
  head -c 6000000 "$(gcc -print-prog-name=cc1)" >plain
  zstd -q -5 plain -o packed.zst
  awk 'BEGIN { x = 1; for (i = 0; i < 60000; i++) { x = (x * 16807) % 2147483647; print x, "line", i } }' >lines
  awk 'BEGIN {
    print "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>"
    for (i = 0; i < 15; i++) {
      printf "static int f%d(int *a, int n, int k)\n{\n    int s = %d;\n", i, i
      printf "    for (int i = 0; i < n; i++) {\n        if (a[i] %% %d == k) s += a[i] * %d;\n", i + 2, i
      printf "        else if (a[i] > s) a[i] -= s >> %d;\n        else s ^= k << %d;\n    }\n", i % 7, i % 5
      printf "    switch (s & 3) { case 0: return s; case 1: return s + n; case 2: return s - k; }\n    return n;\n}\n"
    }
    print "int main(int argc, char **argv)\n{\n    int a[64];\n    memset(a, argc, sizeof a);\n    int s = atoi(argv[0]);"
    for (i = 0; i < 15; i++) printf "    s += f%d(a, 64, s & 7);\n", i
    print "    printf(\"%d\\n\", s);\n    return 0;\n}"
  }' >program.c
  compile >/dev/null
}

compress() { zstd -q -5 -c plain | cksum; }

decompress() {
  for i in 1 2 3 4; do zstd -q -d -c packed.zst; done | cksum
}

sort_() { sort lines | cksum; sort -n lines | cksum; }

sqlite() {
  sqlite3 :memory: "
    create table t(a integer primary key, b integer, c text);
    with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)
      insert into t select i, i * 7919 % 10007, 'row ' || i from n;
    create index tb on t(b);
    select count(*), sum(x) from (select b, sum(a) x from t group by b having x % 3 = 0);
    select count(*), sum(length(x.c)) from t x join t y on x.b = y.a;
    update t set c = upper(c) where b % 5 = 1;
    select sum(instr(c, 'ROW')) from t;"
}

compile() {
  gcc -O1 -c program.c -o program.o
  cksum <program.o
}

redis() {
  redis-cli flushall
  redis-benchmark -q -n 1000 -c 20 -t set,get,incr >/dev/null
  redis-cli incr counter:__rand_int__
}

syscalls() { dd if=/dev/zero of=/dev/null bs=1 count=100000 2>&1 | head -n 2; }

forks() {
  i=0
  while [ $i -lt 250 ]; do
    /bin/busybox true
    i=$((i + 1))
  done
  echo $i
}

work=$1
if [ "$work" = prepare ]; then
  prepare
  echo "@@end prepare ok"
  exit
fi
cd $folder
[ "$work" = sort ] && work=sort_
echo "@@begin $1"
result=$($work)
echo "@@end $1" $result
