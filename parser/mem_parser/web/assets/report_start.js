// The start of a report that has its data in it.

startPage((data) => new ReportPage(data).refresh());
