// The start of a report that has its data in it.

new ReportPage(Object.fromEntries(REPORT_BLOCKS.map((name) => [name, readBlock(name)]))).refresh();
document.documentElement.dataset.ready = "1";
