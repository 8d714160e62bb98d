'use strict';

// The CPU time and memory of a process, from /proc (proc_pid_stat(5)).

const fs = require('node:fs');

// USER_HZ: 100 on every architecture that Node runs on.
const TICKS_PER_SECOND = 100;

function cpuSeconds(pid) {
  const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The name in parentheses may contain any character; utime and stime are fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

function peakMebibytes(pid) {
  const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)[1]) / 1024;
}

module.exports = { cpuSeconds, peakMebibytes };
